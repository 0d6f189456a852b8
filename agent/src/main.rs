//! Placeholder.
#[allow(dead_code)]
mod account;

fn main() {}
