//! AWS as the launcher and the roll need it. SDK types end in this folder's files.

pub mod cloud;
pub mod ec2;
pub mod kms;
pub mod rolls;
pub mod secrets;
pub mod ssm;
