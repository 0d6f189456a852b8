//! The shim: all that amazon-ssm-agent may execute on a bastion besides its own programs.
//!
//! A program of its own, so that nobody who has a session document at will can start the agent by it.

fn main() -> std::process::ExitCode {
    powerpole_agent::shim()
}
