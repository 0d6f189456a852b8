//! The agent.

fn main() -> std::process::ExitCode {
    powerpole_agent::agent()
}
