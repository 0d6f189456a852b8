//! Scaffold of this branch: the modules, without the product's main.
#![allow(dead_code, unused_imports)]
mod broker;
mod clock;
mod config;
mod evidence;
mod failure;
mod firewall;
mod session;
mod sql;
mod unsafe_os;
fn main() -> std::process::ExitCode {
    broker::shim::main(std::env::args_os().skip(1).collect())
}
