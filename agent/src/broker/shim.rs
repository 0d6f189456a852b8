//! The shim: what amazon-ssm-agent finds when it looks for `sh`. It leads every login into the broker.
//!
//! Runs as ssm-user, without rights of its own, and holds nothing: it hands its terminal to the broker, tells it of
//! resizes and waits for the exit code. The broker works on the terminal itself, so no byte of a session passes
//! through here. ssm-user's processes are not the operator's, whose shell has another uid.
//!
//! amazon-ssm-agent also asks `sh -c "id ssm-user"` and the like, as root and without a terminal, before it starts
//! a session (agent/session/shell/shell_unix.go, agent/session/utility/utility_unix.go). The shim answers exactly
//! those itself: the unit's `NoExecPaths=` leaves it no other program to run, and it wants none. Without a broker
//! there is no shell at all.

use super::socket::{Connection, FromBroker, FromShim};
use rustix::process::{Pid, getppid, getuid};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Where the broker listens.
const SOCKET: &str = "/run/powerpole/broker.sock";
/// Programs of amazon-ssm-agent that ask for users' ids.
const ASKERS: [&str; 3] = [
    "/usr/bin/ssm-session-worker",
    "/usr/bin/amazon-ssm-agent",
    "/usr/bin/ssm-agent-worker",
];
/// How long the broker may take to decide.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `sh` was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
enum Purpose {
    /// One of amazon-ssm-agent's own questions.
    Question(Question),
    /// A login, perhaps with a command.
    Login(Option<String>),
    /// Something that no bastion serves.
    Unserved,
}

/// What amazon-ssm-agent asks about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    wanted: Wanted,
    name: String,
}

/// Which ids are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// `id NAME`
    Everything,
    /// `id -u NAME`
    User,
    /// `id -g NAME`
    Group,
}

/// Decides what `sh` was started for.
fn purpose(arguments: &[OsString], uid: u32, has_terminal: bool, parent: &Path) -> Purpose {
    let asker = ASKERS.iter().any(|asker| Path::new(asker) == parent);
    match arguments {
        [] => Purpose::Login(None),
        [flag, command] if flag == "-c" => match command.to_str() {
            Some(command) => match question(command) {
                Some(question) if uid == 0 && !has_terminal && asker => Purpose::Question(question),
                Some(_) | None => Purpose::Login(Some(command.to_owned())),
            },
            None => Purpose::Unserved,
        },
        _ => Purpose::Unserved,
    }
}

/// Reads `id NAME`, `id -u NAME` or `id -g NAME`, to the letter.
fn question(command: &str) -> Option<Question> {
    let rest = command.strip_prefix("id ")?;
    let (wanted, name) = if let Some(name) = rest.strip_prefix("-u ") {
        (Wanted::User, name)
    } else if let Some(name) = rest.strip_prefix("-g ") {
        (Wanted::Group, name)
    } else {
        (Wanted::Everything, rest)
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    let valid = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(plain);
    valid.then(|| Question {
        wanted,
        name: name.to_owned(),
    })
}

/// Answers as `id` would; exit code 1 when there is no such user.
fn answer(question: &Question) -> ExitCode {
    let Ok(Some(user)) = nix::unistd::User::from_name(&question.name) else {
        eprintln!("id: '{}': no such user", question.name);
        return ExitCode::FAILURE;
    };
    let (uid, gid) = (user.uid, user.gid);
    match question.wanted {
        Wanted::User => println!("{uid}"),
        Wanted::Group => println!("{gid}"),
        Wanted::Everything => {
            let group = nix::unistd::Group::from_gid(gid).ok().flatten();
            let group = group.map_or_else(|| gid.to_string(), |group| group.name);
            println!(
                "uid={uid}({}) gid={gid}({group}) groups={gid}({group})",
                user.name
            );
        }
    }
    ExitCode::SUCCESS
}

/// Runs the shim with the arguments that follow `sh`.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    // Started under another uid than its own by a hostile document, it must not be a process to be taken over.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say(&format!("this session cannot be protected ({error})."));
        return ExitCode::FAILURE;
    }
    let parent = getppid().map(program_of).unwrap_or_default();
    let has_terminal = rustix::termios::isatty(io::stdin())
        || rustix::termios::isatty(io::stdout())
        || rustix::termios::isatty(io::stderr());
    match purpose(&arguments, getuid().as_raw(), has_terminal, &parent) {
        Purpose::Question(question) => answer(&question),
        Purpose::Login(command) => login(command),
        Purpose::Unserved => {
            say("this bastion serves shells and commands only.");
            ExitCode::FAILURE
        }
    }
}

fn program_of(pid: Pid) -> PathBuf {
    // Root's question comes from root's process, so the link is readable just where it counts.
    std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap_or_default()
}

fn login(command: Option<String>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(attend(Path::new(SOCKET), command)),
        Err(e) => Err(e),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!(
                "this session cannot be recorded, so it cannot begin or go on ({error}). \
                 Start it again; if that fails, ask for a new bastion."
            ));
            ExitCode::FAILURE
        }
    }
}

/// Asks for a session and waits for its end; returns the exit code.
async fn attend(socket: &Path, command: Option<String>) -> io::Result<u8> {
    let mut resized = signal(SignalKind::window_change())?;
    let broker = Connection::connect(socket)?;
    let term = std::env::var("TERM").unwrap_or_default();
    let asked = async {
        let FromBroker::Challenge { nonce } = next(&broker).await? else {
            return Err(unexpected());
        };
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let login = FromShim::Login {
            nonce,
            command,
            term,
        };
        broker
            .send_with(&login, &[stdin.as_fd(), stdout.as_fd()])
            .await?;
        next(&broker).await
    };
    let answer = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match answer {
        FromBroker::Refused { message } => {
            say(&message);
            return Ok(1);
        }
        FromBroker::Admitted { .. } => {}
        FromBroker::Challenge { .. } | FromBroker::Ended { .. } => return Err(unexpected()),
    }
    loop {
        tokio::select! {
            message = next(&broker) => match message? {
                FromBroker::Ended { code, message } => {
                    if let Some(message) = message {
                        say(&message);
                    }
                    return Ok(code);
                }
                FromBroker::Challenge { .. }
                | FromBroker::Admitted { .. }
                | FromBroker::Refused { .. } => return Err(unexpected()),
            },
            Some(()) = resized.recv() => broker.send(&FromShim::Resized).await?,
        }
    }
}

async fn next(broker: &Connection) -> io::Result<FromBroker> {
    let received = broker
        .receive()
        .await?
        .ok_or_else(|| io::Error::other("the recorder has gone away"))?;
    received.parse()
}

fn unexpected() -> io::Error {
    io::Error::other("the recorder answered out of turn")
}

fn say(text: &str) {
    // A terminal that is gone hears nothing.
    let _ = writeln!(io::stderr(), "PowerPole: {text}\r");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose_of(command: &str, uid: u32, terminal: bool, parent: &str) -> Purpose {
        purpose(
            &["-c".into(), command.into()],
            uid,
            terminal,
            Path::new(parent),
        )
    }

    #[test]
    fn the_agents_own_questions_are_answered_and_nothing_else_is() {
        let worker = ASKERS[0];
        for (question, wanted, name) in [
            ("id ssm-user", Wanted::Everything, "ssm-user"),
            ("id -u ssm-user", Wanted::User, "ssm-user"),
            ("id -g operator", Wanted::Group, "operator"),
        ] {
            let asked = Question {
                wanted,
                name: name.to_owned(),
            };
            assert_eq!(
                purpose_of(question, 0, false, worker),
                Purpose::Question(asked)
            );
            for (uid, terminal, parent) in [
                (1001, false, worker),
                (0, true, worker),
                (0, false, "/bin/bash"),
            ] {
                let expected = Purpose::Login(Some(question.to_owned()));
                assert_eq!(purpose_of(question, uid, terminal, parent), expected);
            }
        }
        for other in [
            "id",
            "id ",
            "id -n x",
            "id x; sh",
            "id $(sh)",
            "id x\nsh",
            "idx",
            "id  x",
            "id -u -g x",
        ] {
            let expected = Purpose::Login(Some(other.to_owned()));
            assert_eq!(purpose_of(other, 0, false, worker), expected, "{other:?}");
        }
    }

    #[test]
    fn other_arguments_are_not_served() {
        let parent = Path::new(ASKERS[0]);
        assert_eq!(purpose(&[], 1001, true, parent), Purpose::Login(None));
        assert_eq!(
            purpose(&["-l".into()], 1001, true, parent),
            Purpose::Unserved
        );
        assert_eq!(
            purpose(&["-c".into()], 1001, true, parent),
            Purpose::Unserved
        );
        assert_eq!(
            purpose(&["/tmp/script".into()], 0, false, parent),
            Purpose::Unserved
        );
    }
}
