//! Sessions through the real AWS CLI: terminal, signals, pipes, many at once, who is let in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use support::{Running, Stage, binary, eventually, text};

const INSTANCE: &str = "i-0123456789abcdef0";

/// A stage with a connected agent whose sessions run as `nobody`, below a shim named `sh`.
fn with_agent() -> Option<(Stage, Running)> {
    if !rustix_is_root() {
        eprintln!("SKIPPED: sessions change their uid, which needs root");
        return None;
    }
    let stage = Stage::up(true)?;
    let document = r#"{"schemaVersion":"1.0","sessionType":"Standard_Stream","inputs":{"runAsEnabled":true,"runAsDefaultUser":"nobody"}}"#;
    stage.answer(&format!(
        "ssm create-document --name AsNobody --document-type Session --content '{document}'"
    ));
    let shims = stage.folder.path().join("shims");
    fs::create_dir(&shims).unwrap();
    for folder in [stage.folder.path(), &shims] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let shim = shims.join("sh");
    let log = stage.folder.path().join("shim.log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let script = format!(
        "#!/bin/dash\nif [ -t 0 ]; then tty=tty; else tty=none; fi\necho \"$(id -u) $tty $*\" >> '{}'\nexec /bin/dash \"$@\"\n",
        log.display()
    );
    fs::write(&shim, script).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let worker = stage.folder.path().join("ssm-session-worker");
    fs::copy(binary(), &worker).unwrap();
    let path = format!("{}:{}", shims.display(), std::env::var("PATH").unwrap());
    let agent = Command::new(binary())
        .args(["ssm", "agent"])
        .env("PATH", path)
        .env("POWERPOLE_STAGE_SSM_GATEWAY", &stage.gateway)
        .env("POWERPOLE_STAGE_SSM_INSTANCE", INSTANCE)
        .env("POWERPOLE_STAGE_SSM_DATA", stage.folder.path().join("ssm"))
        .env("POWERPOLE_STAGE_SSM_WORKER", worker)
        .current_dir("/")
        .spawn()
        .unwrap();
    let agent = Running(agent);
    eventually("the registration", || connected(&stage));
    Some((stage, agent))
}

fn rustix_is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    text(&output.stdout).trim() == "0"
}

fn connected(stage: &Stage) -> bool {
    let status = stage.answer(&format!("ssm get-connection-status --target {INSTANCE}"));
    status["Status"] == "connected"
}

fn start_line() -> String {
    format!(
        "aws ssm start-session --region us-east-1 --target {INSTANCE} --document-name AsNobody --reason REQ"
    )
}

/// A person before a terminal.
struct Person {
    cli: Running,
    master: File,
    slave: File,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    fn sit_down(stage: &Stage, columns: u16, rows: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let master = File::from(master);
        resize(&master, columns, rows);
        // Setsid makes the terminal the controlling one, so that a resize reaches the plugin.
        let slave = File::options().read(true).write(true).open(&path).unwrap();
        let line = stage.shell("alice", &format!("exec {}", start_line()));
        let cli = Command::new("setsid")
            .args(["--ctty", "--wait", "bash"])
            .args(line.get_args())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let (sender, output) = mpsc::channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = reader.read(&mut buffer) {
                if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut person = Self {
            cli: Running(cli),
            master,
            slave,
            output,
            seen: String::new(),
        };
        person.sees("$ ");
        person
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for text and forgets all up to it.
    #[allow(clippy::disallowed_methods)]
    fn sees(&mut self, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some((_, rest)) = self.seen.split_once(wanted) {
                self.seen = rest.to_owned();
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&text(&bytes)),
                Err(_) => panic!("{wanted:?} did not come; seen: {:?}", self.seen),
            }
        }
    }

    fn has_raw_terminal(&self) -> bool {
        !tcgetattr(&self.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO)
    }
}

fn resize(master: &File, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

fn state_files(stage: &Stage) -> Vec<PathBuf> {
    let folder = stage
        .folder
        .path()
        .join("ssm")
        .join(INSTANCE)
        .join("document/state/current");
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_person_works_in_a_terminal_as_if_they_sat_there() {
    let Some((stage, _agent)) = with_agent() else {
        return;
    };
    let mut person = Person::sit_down(&stage, 81, 25);
    assert!(person.has_raw_terminal());
    person.types("stty size\n");
    person.sees("25 81\r\n");
    resize(&person.master, 132, 43);
    // Asks again until the resize has come through; `sees` waits for it in what was answered.
    for _ in 0..5 {
        person.types("sleep 0.2; stty size\n");
    }
    person.sees("43 132\r\n");

    person.types("cat > /dev/null; echo code $?\n");
    std::thread::sleep(Duration::from_millis(300));
    person.types("\u{3}");
    person.sees("$ ");
    person.types("echo al''ive $(id -un) $HOME $TERM\n");
    person.sees("alive nobody /home/nobody xterm-256color\r\n");

    person.types("tr '\\0' ' ' < /proc/$PPID/cmdline\n");
    person.sees("/usr/bin/ssm-session-worker alice@example.com-0");
    let files = state_files(&stage);
    let state: serde_json::Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
    let information = &state["DocumentInformation"];
    assert_eq!(
        information["SessionOwner"],
        "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com"
    );
    let id = information["DocumentID"].as_str().unwrap();
    assert_eq!(files[0].file_name().unwrap().to_str(), Some(id));
    assert_eq!(
        fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );

    person.types("exit\n");
    person.sees("Exiting session with sessionId: alice@example.com-0");
    assert!(person.cli.0.wait().unwrap().success());
    assert!(!person.has_raw_terminal());
    eventually("the state file's removal", || {
        state_files(&stage).is_empty()
    });

    let log = fs::read_to_string(stage.folder.path().join("shim.log")).unwrap();
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    assert!(lines.contains(&"0 none -c id -u nobody"), "{log}");
    assert_eq!(lines.last(), Some(&"65534 tty"), "{log}");
}

#[test]
fn a_session_that_is_ended_from_outside_restores_the_terminal_and_kills_its_child_only() {
    let Some((stage, _agent)) = with_agent() else {
        return;
    };
    let mut person = Person::sit_down(&stage, 80, 24);
    person.types("setsid sleep 4321.5 >/dev/null 2>&1 < /dev/null & echo left''over $!\n");
    person.sees("leftover ");
    person.sees("$ ");
    let sessions = stage.answer("ssm describe-sessions --state Active");
    assert_eq!(sessions["Sessions"][0]["Status"], "Connected");
    let id = sessions["Sessions"][0]["SessionId"].as_str().unwrap();
    stage.answer(&format!("ssm terminate-session --session-id {id}"));
    person.sees("Exiting session");
    assert!(person.cli.0.wait().unwrap().success());
    assert!(!person.has_raw_terminal());
    let left = Command::new("pgrep")
        .args(["-u", "nobody", "-fx", "sleep 4321.5"])
        .output()
        .unwrap();
    let left = text(&left.stdout);
    assert!(!left.trim().is_empty());
    for pid in left.split_whitespace() {
        Command::new("kill").arg(pid).status().unwrap();
    }
    let history = stage.answer("ssm describe-sessions --state History");
    assert_eq!(history["Sessions"][0]["Status"], "Terminated");
}

#[test]
fn ten_pipes_at_once_each_get_their_own_answer() {
    let Some((stage, _agent)) = with_agent() else {
        return;
    };
    let children: Vec<_> = (0..10)
        .map(|number| {
            let line = format!("printf 'echo it-$(({number} * 7))' | {}", start_line());
            stage
                .shell("alice", &line)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answer = format!("it-{}\r\n", number * 7);
        assert!(
            text(&output.stdout).contains(&answer),
            "{}",
            text(&output.stdout)
        );
    }
    let lines: String = (0..1000)
        .map(|number| format!("echo n-$(({number}))\n"))
        .collect();
    let file = stage.folder.path().join("lines");
    fs::write(&file, lines).unwrap();
    let line = format!("{} < '{}'", start_line(), file.display());
    let output = text(&stage.shell("alice", &line).output().unwrap().stdout);
    // Between a line and its end the terminal may show what it was sent meanwhile (the kernel writes a text and its line
    // feed in two steps), but an answer is never in two, and what was sent has no number behind `n-`.
    let answered: BTreeSet<u32> = output
        .split("n-")
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect();
    let missing: Vec<u32> = (0..1000).filter(|n| !answered.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?} of {output}");
}

#[test]
fn nobody_gets_to_an_instance_that_is_not_connected() {
    let Some((stage, agent)) = with_agent() else {
        return;
    };
    let absent = "ssm start-session --target i-0fedcba9876543210 --document-name AsNobody";
    assert_eq!(stage.refusal(absent), "TargetNotConnected");
    let unknown = format!("ssm start-session --target {INSTANCE} --document-name Unknown");
    assert_eq!(stage.refusal(&unknown), "InvalidDocument");
    let diagnostics = || {
        let output = Command::new(binary())
            .args(["ssm", "cli", "get-diagnostics"])
            .env("POWERPOLE_STAGE_SSM_GATEWAY", &stage.gateway)
            .env("POWERPOLE_STAGE_SSM_INSTANCE", INSTANCE)
            .output()
            .unwrap();
        text(&output.stdout)
    };
    assert!(!diagnostics().contains("\"Failed\""));
    drop(agent);
    eventually("the agent's end", || !connected(&stage));
    assert!(diagnostics().contains("\"Failed\""));
    let gone = format!("ssm start-session --target {INSTANCE} --document-name AsNobody");
    assert_eq!(stage.refusal(&gone), "TargetNotConnected");
}

#[test]
fn an_agent_registers_from_its_instances_own_address_only() {
    let Some(stage) = Stage::up(false) else {
        return;
    };
    let images = stage.answer("ec2 describe-images --owners amazon --query Images[0].ImageId");
    let image = images.as_str().unwrap();
    let launch = |more: &str| {
        let launched = stage.answer(&format!(
            "ec2 run-instances --image-id {image} --count 1 {more}"
        ));
        launched["Instances"][0]["InstanceId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (here, elsewhere) = (launch("--private-ip-address 127.0.0.1"), launch(""));
    let log = stage.folder.path().join("agent.log");
    let agents: Vec<Running> = [&here, &elsewhere]
        .into_iter()
        .map(|instance| {
            let agent = Command::new(binary())
                .args(["ssm", "agent"])
                .env("RUST_LOG", "warn")
                .env("POWERPOLE_STAGE_SSM_GATEWAY", &stage.gateway)
                .env("POWERPOLE_STAGE_SSM_INSTANCE", instance)
                .stderr(
                    File::options()
                        .append(true)
                        .create(true)
                        .open(&log)
                        .unwrap(),
                )
                .spawn()
                .unwrap();
            Running(agent)
        })
        .collect();
    let refusal = format!("is not the address of {elsewhere}");
    eventually("the refusal", || {
        fs::read_to_string(&log).unwrap().contains(&refusal)
    });
    let status = |instance: &str| {
        let status = stage.answer(&format!("ssm get-connection-status --target {instance}"));
        status["Status"].as_str().unwrap().to_owned()
    };
    eventually("the registration", || status(&here) == "connected");
    assert_eq!(status(&elsewhere), "notconnected");
    drop(agents);
}
