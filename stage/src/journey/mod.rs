//! The main job as people do it: ask, approve, read the DM, log in, run SQL, look at what is left.
//!
//! Demo and end-to-end tests walk through it; everything goes through the doors that people use.

mod evidence;
mod http;
mod ledger;
mod login;
mod slack;

pub(crate) use evidence::{
    Verdict, export, keep_rolls, rolls, verify, verify_strictly, verify_with_rolls,
};
pub(crate) use http::{HttpError, aws, get, post};
pub(crate) use ledger::{Item, Ledger};
pub(crate) use login::Login;
pub(crate) use slack::{Delivered, Form, Slack, values};
