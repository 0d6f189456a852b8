//! What is compared, how each is started, and how what it kept is read back.

use crate::cloud::Cloud;
use crate::programs::SHIP_TO;
use powerpole_chain::{Content, Kind, Parsed, parse_line};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One recorder, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Candidate {
    None,
    Floor,
    PowerPole,
    PowerPoleBySdk,
    Script,
    ScriptFlush,
    Asciinema,
    Tlog,
    Sudo,
    SudoCompressed,
}

use Candidate::*;

pub const ALL: [Candidate; 10] = [
    None,
    Floor,
    PowerPole,
    PowerPoleBySdk,
    Script,
    ScriptFlush,
    Asciinema,
    Tlog,
    Sudo,
    SudoCompressed,
];

/// How to start a candidate.
pub struct Start {
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Candidate {
    /// A short name without spaces, for `only=`.
    pub fn key(self) -> &'static str {
        match self {
            None => "none",
            Floor => "floor",
            PowerPole => "powerpole",
            PowerPoleBySdk => "powerpole-sdk",
            Script => "script",
            ScriptFlush => "script-f",
            Asciinema => "asciinema",
            Tlog => "tlog",
            Sudo => "sudo",
            SudoCompressed => "sudo-zlib",
        }
    }

    /// The name in the table.
    pub fn title(self) -> String {
        let title = match self {
            None => "none",
            Floor => "bare PTY relay (the floor)",
            PowerPole => "**PowerPole**",
            PowerPoleBySdk => "**PowerPole**, shipping by the SDK",
            Script => "script",
            ScriptFlush => "script -f",
            Asciinema => "asciinema",
            Tlog => "tlog-rec",
            Sudo => "sudo log_output",
            SudoCompressed => "sudo log_output, zlib",
        };
        match self.version() {
            Option::None => title.to_owned(),
            Some(version) => format!("{title} {version}"),
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            None | Floor | PowerPole | PowerPoleBySdk => Option::None,
            Script | ScriptFlush => Some("script"),
            Asciinema => Some("asciinema"),
            Tlog => Some("tlog-rec"),
            Sudo | SudoCompressed => Some("sudo"),
        }
    }

    /// The first number with a dot that the program says of itself.
    fn version(self) -> Option<String> {
        let output = Command::new(self.program()?).arg("--version").output();
        let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
        text.split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
            .map(str::to_owned)
    }

    /// Whether it can be run here; the reason when not.
    pub fn missing(self) -> Option<String> {
        let program = self.program()?;
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("{program} is not installed"));
        }
        let root = rustix::process::geteuid().is_root();
        let needs_root = matches!(self, Tlog | Sudo | SudoCompressed) && !root;
        needs_root.then(|| "its mounts need root".to_owned())
    }

    /// Whether it keeps anything.
    pub fn records(self) -> bool {
        !matches!(self, None | Floor)
    }

    /// How to run `command` (for sh) under it with what it keeps in `dir`, an empty directory. `keep`: what it kept is
    /// read back afterwards.
    pub fn start(self, dir: &Path, command: &str, keep: bool, sink: &str) -> Start {
        let this = std::env::current_exe().unwrap().display().to_string();
        let file = |name: &str| dir.join(name).display().to_string();
        let sh = ["sh".to_owned(), "-c".to_owned(), command.to_owned()];
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let with_sh = |mut argv: Vec<String>| {
            argv.extend(sh.clone());
            argv
        };
        let mut environment = Vec::new();
        let argv = match self {
            None => sh.to_vec(),
            Floor => with_sh(words(&[&this, "floor"])),
            PowerPole | PowerPoleBySdk => {
                let to = match (self, keep) {
                    (PowerPoleBySdk, false) => sink.to_owned(),
                    (_, true) => format!("file:{}", file("taken")),
                    (_, false) => String::new(),
                };
                environment.push((SHIP_TO.to_owned(), to));
                with_sh(words(&[&this, "recorder", &file("spool")]))
            }
            Script => words(&["script", "-q", "-c", command, &file("typescript")]),
            ScriptFlush => words(&["script", "-q", "-f", "-c", command, &file("typescript")]),
            Asciinema => words(&["asciinema", "rec", "-q", "-c", command, &file("cast")]),
            Tlog => {
                // It enters itself into utmp and fails where there is none: it gets one of its own.
                let inside = format!(
                    "mount -t tmpfs tmpfs /run && touch /run/utmp && chgrp utmp /run/utmp && chmod 664 /run/utmp \
                     && exec tlog-rec --writer=file --file-path={} sh -c \"$0\"",
                    file("tlog")
                );
                words(&with_mounts(&inside, command))
            }
            Sudo | SudoCompressed => {
                let sudoers = dir.join("sudoers");
                let text = format!(
                    "Defaults log_output, {}compress_io, iolog_dir={}, iolog_file=log\nroot ALL=(ALL) NOPASSWD: ALL\n",
                    if self == Sudo { "!" } else { "" },
                    dir.display(),
                );
                fs::write(&sudoers, text).unwrap();
                // The configuration is sudo's alone: a mount in a namespace that ends with it.
                let inside = format!(
                    "mount --bind {} /etc/sudoers && exec sudo -n sh -c \"$0\"",
                    sudoers.display()
                );
                environment.push(("HOME".to_owned(), "/nonexistent".to_owned()));
                words(&with_mounts(&inside, command))
            }
        };
        Start { argv, environment }
    }

    /// The bytes of output that it kept.
    pub fn kept(self, dir: &Path) -> Vec<u8> {
        match self {
            None | Floor => Vec::new(),
            PowerPole | PowerPoleBySdk => kept_by_powerpole(dir),
            Script | ScriptFlush => {
                let bytes = fs::read(dir.join("typescript")).unwrap_or_default();
                // A first line of script's own.
                let own = bytes.starts_with(b"Script started");
                let from = bytes
                    .iter()
                    .position(|b| own && *b == b'\n')
                    .map_or(0, |at| at + 1);
                bytes[from..].to_vec()
            }
            Asciinema => json_lines(&dir.join("cast"))
                .filter(|event| event[1] == "o")
                .filter_map(|event| event[2].as_str().map(str::to_owned))
                .collect::<String>()
                .into_bytes(),
            Tlog => json_lines(&dir.join("tlog"))
                .filter_map(|message| message["out_txt"].as_str().map(str::to_owned))
                .collect::<String>()
                .into_bytes(),
            Sudo => fs::read(dir.join("log/ttyout")).unwrap_or_default(),
            SudoCompressed => Command::new("gzip")
                .arg("-dc")
                .stdin(
                    fs::File::open(dir.join("log/ttyout"))
                        .map_or_else(|_| std::process::Stdio::null(), std::process::Stdio::from),
                )
                .output()
                .map(|output| output.stdout)
                .unwrap_or_default(),
        }
    }
}

/// Runs `inside` with `command` as `$0`, with mounts that nobody else sees and that end with it.
fn with_mounts<'a>(inside: &'a str, command: &'a str) -> [&'a str; 8] {
    let program = "unshare";
    let private = "--propagation=private";
    [
        program, "--mount", private, "--", "sh", "-c", inside, command,
    ]
}

fn json_lines(path: &Path) -> impl Iterator<Item = serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // A torn last line is no record.
    let values: Vec<_> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    values.into_iter()
}

/// What CloudWatch holds once the unit's second program has shipped what a killed agent left: here as there, without
/// a key and by number.
fn kept_by_powerpole(dir: &Path) -> Vec<u8> {
    let taken: PathBuf = dir.join("taken");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(crate::evidence::tail::ship_tail(
            &dir.join("spool"),
            &Cloud::in_process(Some(&taken)),
            Duration::from_secs(20),
        ))
        .unwrap();
    let mut records = BTreeMap::new();
    let mut tail = BTreeMap::new();
    for line in fs::read(&taken).unwrap_or_default().split(|b| *b == b'\n') {
        match parse_line(line) {
            Ok(Parsed::Record(record)) => {
                if let (Kind::Output, Content::Full { payload, .. }) = (record.kind, record.content)
                {
                    records.insert(record.seq, payload);
                }
            }
            Ok(Parsed::Unsealed(frame)) if frame.kind == Kind::Output => {
                tail.insert(frame.n, frame.payload);
            }
            _ => {}
        }
    }
    records
        .into_values()
        .chain(tail.into_values())
        .flatten()
        .collect()
}
