//! How a session's program is started: uid and gid bare, no PAM, the agent's environment, `sh` through
//! PATH, and for a shell a new terminal that belongs to root.
//!
//! Between fork and exec nothing of ours runs. The worker starts its own binary again
//! ([`become_program`]), which makes itself a session leader, opens the terminal, drops its ids and
//! becomes the program: the program is the worker's direct child, and no unsafe code is needed.

use super::wire::{Document, SessionType, Size};
use anyhow::Context;
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, setgid, setgroups, setsid, setuid,
};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    process::{ExitCode, Stdio},
};
use tokio::process::{Child, Command};

const DEFAULT_USER: &str = "ssm-user";

/// Why no shell was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    #[error("a terminal cannot be had")]
    Terminal(#[source] io::Error),
    #[error("the program cannot be started")]
    Spawn(#[source] io::Error),
    #[error("sh -c \"{0}\" cannot be run")]
    Id(String, #[source] io::Error),
    #[error("user {0} does not exist, or its ids are not what a session may have")]
    User(String),
    #[error("please set the RunAs default user")]
    NoRunAsUser,
    #[error("commands are empty or their quotes do not match")]
    Commands,
}

/// The arguments of the hidden step between worker and program.
#[derive(clap::Args)]
pub(crate) struct ExecArgs {
    /// The terminal's path; without one the program keeps the pipes that it was given.
    #[arg(long)]
    tty: Option<String>,
    /// Uid and gid, with the groups, that the program runs with; without them it stays root.
    #[arg(long)]
    uid: Option<u32>,
    #[arg(long)]
    gid: Option<u32>,
    #[arg(long, value_delimiter = ',')]
    groups: Vec<u32>,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

/// Who a session's program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// A running program with its terminal's master side.
pub(crate) struct Shell {
    pub(crate) child: Child,
    pub(crate) master: File,
}

/// Finds the session's user as the real agent does: by `sh -c "id …"`, as root, without a terminal.
///
/// Nobody means root: the document asks for elevation.
pub(crate) async fn find_user(document: &Document) -> Result<Option<User>, ShellError> {
    if document.run_as_elevated {
        return Ok(None);
    }
    let name = match (document.run_as_enabled, document.run_as_user.trim()) {
        (true, "") => return Err(ShellError::NoRunAsUser),
        (true, name) => name,
        (false, _) => DEFAULT_USER,
    };
    id(&format!("id {name}"), name).await?;
    let uid = id(&format!("id -u {name}"), name).await?;
    let gid = id(&format!("id -g {name}"), name).await?;
    let all = id(&format!("id {name}"), name).await?;
    parse_user(name, &uid, &gid, &all).map(Some)
}

/// Starts a session's program on a new terminal of the given size.
pub(crate) fn start(
    document: &Document,
    user: Option<&User>,
    size: Size,
) -> Result<Shell, ShellError> {
    let terminal = |error: rustix::io::Errno| ShellError::Terminal(error.into());
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(terminal)?;
    grantpt(&master).map_err(terminal)?;
    unlockpt(&master).map_err(terminal)?;
    let path = ptsname(&master, Vec::new()).map_err(terminal)?;
    let master = File::from(master);
    resize(&master, size).map_err(ShellError::Terminal)?;
    let mut command = prepare(user);
    command
        .arg("--tty")
        .arg(path.to_string_lossy().as_ref())
        .args(["--", "sh"]);
    if document.session_type == SessionType::InteractiveCommands && !document.commands.is_empty() {
        command.args(["-c", document.commands.as_str()]);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(ShellError::Spawn)?;
    Ok(Shell { child, master })
}

/// Starts a command without `sh` and without a terminal.
pub(crate) fn start_command(document: &Document, user: Option<&User>) -> Result<Child, ShellError> {
    let words = split(&document.commands).ok_or(ShellError::Commands)?;
    prepare(user)
        .arg("--")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ShellError::Spawn)
}

/// Sets a terminal's size.
pub(crate) fn resize(master: &File, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

/// Becomes the program; comes back only with an error.
pub(crate) fn become_program(args: ExecArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.tty {
        setsid().context("becoming a session leader")?;
        // Opened by a session leader without O_NOCTTY, it becomes the controlling terminal.
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(path)
            .context("opening the terminal")?;
        dup2_stdin(&terminal)?;
        dup2_stdout(&terminal)?;
        dup2_stderr(&terminal)?;
    }
    if let (Some(uid), Some(gid)) = (args.uid, args.gid) {
        let groups: Vec<Gid> = args.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).context("setting groups")?;
        setgid(Gid::from_raw(gid)).context("setting gid")?;
        setuid(Uid::from_raw(uid)).context("setting uid")?;
    }
    let (program, arguments) = args.program.split_first().context("no program")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", program.to_string_lossy()))
}

fn prepare(user: Option<&User>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("powerpole-stage")
        .args(["ssm", "exec"])
        .env("TERM", "xterm-256color");
    if std::env::var_os("LANG").is_none_or(|lang| lang.is_empty()) {
        command.env("LANG", "C.UTF-8");
    }
    match user {
        Some(user) => {
            let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
            command.env("HOME", format!("/home/{}", user.name));
            command
                .arg(format!("--uid={}", user.uid))
                .arg(format!("--gid={}", user.gid));
            if !groups.is_empty() {
                command.arg(format!("--groups={}", groups.join(",")));
            }
        }
        None => {
            command.env("HOME", "/root");
        }
    }
    command
}

async fn id(command: &str, name: &str) -> Result<String, ShellError> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| ShellError::Id(command.to_owned(), source))?;
    if !output.status.success() {
        return Err(ShellError::User(name.to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn parse_user(name: &str, uid: &str, gid: &str, all: &str) -> Result<User, ShellError> {
    let wrong = || ShellError::User(name.to_owned());
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let uid = number(uid).filter(|uid| *uid > 0).ok_or_else(wrong)?;
    let gid = number(gid).filter(|gid| *gid > 0).ok_or_else(wrong)?;
    let groups = match all.split_once("groups=") {
        None => Vec::new(),
        Some((_, list)) => list
            .split(',')
            .map(|group| group.split('(').next().and_then(number).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
    };
    Ok(User {
        name: name.to_owned(),
        uid,
        gid,
        groups,
    })
}

/// Splits a command into words; quotes and backslashes are understood, nothing else.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().push(letters.next()?),
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_what_id_prints_and_root_is_refused() {
        let all = "uid=995(ssm-user) gid=994(ssm-user) groups=994(ssm-user),100(some users)";
        let user = parse_user("ssm-user", "995\n", "994\n", all).unwrap();
        assert_eq!(
            (user.uid, user.gid, user.groups),
            (995, 994, vec![994, 100])
        );
        assert!(parse_user("root", "0", "0", "uid=0(root) gid=0(root) groups=0(root)").is_err());
    }

    #[test]
    fn words_are_split_with_their_quotes() {
        assert_eq!(
            split(r#"echo 'a b' "c d" e\ f ''"#).unwrap(),
            ["echo", "a b", "c d", "e f", ""]
        );
        assert_eq!(split("  "), None);
        assert_eq!(split("echo 'open"), None);
    }
}
