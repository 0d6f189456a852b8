//! AWS as the launcher needs it. SDK types end in this folder's files.

pub mod cloud;
pub mod ec2;
pub mod kms;
pub mod secrets;
pub mod ssm;
