//! moto, the stage's AWS endpoint and the real AWS CLI, started for one test on free loopback ports.
//!
//! Where moto or the AWS CLI is missing a test says so on stderr and ends: `SKIPPED`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// The binary under test: in the folder that POWERPOLE_TEST_BIN names, or cargo's own.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("POWERPOLE_TEST_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_powerpole-stage").into(),
        |folder| Path::new(&folder).join("powerpole-stage"),
    )
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// moto, endpoint and gateway.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) endpoint: String,
    pub(crate) gateway: String,
    moto_address: String,
    trust_any_agent: bool,
    aws: PathBuf,
    moto: Running,
    proxy: Option<Running>,
}

impl Stage {
    /// Nothing where a tool is missing.
    pub(crate) fn up(trust_any_agent: bool) -> Option<Self> {
        let (Some(moto), Some(aws)) = (tool("moto_server"), tool("aws")) else {
            eprintln!("SKIPPED: moto_server or aws is neither on PATH nor in the cache");
            return None;
        };
        let moto_address = free_address();
        let port = moto_address.rsplit(':').next().unwrap();
        let moto = Running(
            Command::new(moto)
                .args(["-H", "127.0.0.1", "-p", port])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        wait_for(&moto_address);
        let mut stage = Self {
            folder: TempDir::new().unwrap(),
            endpoint: free_address(),
            gateway: free_address(),
            moto_address,
            trust_any_agent,
            aws,
            moto,
            proxy: None,
        };
        stage.restart();
        stage.write_client_config();
        Some(stage)
    }

    /// Ends the endpoint, and starts it again on what it left behind.
    pub(crate) fn restart(&mut self) {
        self.proxy = None;
        let mut command = Command::new(binary());
        command
            .arg("aws")
            .args(["--listen", &self.endpoint])
            .args(["--moto", &format!("http://{}", self.moto_address)])
            .args(["--gateway-listen", &self.gateway])
            .args(["--secret-deletion-delay-ms", "4000"])
            .arg("--data")
            .arg(self.folder.path().join("data"));
        if self.trust_any_agent {
            command.arg("--trust-any-agent");
        }
        self.proxy = Some(Running(command.spawn().unwrap()));
        wait_for(&self.endpoint);
    }

    fn write_client_config(&self) {
        let status = Command::new(binary())
            .args(["ssm", "client-config", "--dir"])
            .arg(self.folder.path().join("client"))
            .args(["--endpoint", &format!("http://{}", self.endpoint)])
            .args(["--gateway", &self.gateway])
            .arg("--aws")
            .arg(&self.aws)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// A shell command in a person's environment.
    pub(crate) fn shell(&self, person: &str, command: &str) -> Command {
        let env = self
            .folder
            .path()
            .join("client")
            .join(format!("env-{person}"));
        let mut shell = Command::new("bash");
        shell
            .arg("-c")
            .arg(format!(". '{}'; {command}", env.display()))
            .env("AWS_MAX_ATTEMPTS", "1");
        shell
    }

    /// Runs the AWS CLI as alice.
    pub(crate) fn aws(&self, arguments: &str) -> Output {
        self.shell("alice", &format!("aws {arguments}"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same, for an answer.
    pub(crate) fn answer(&self, arguments: &str) -> Value {
        let output = self.aws(arguments);
        assert!(
            output.status.success(),
            "{arguments}: {}",
            text(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The same, for AWS' error code.
    pub(crate) fn refusal(&self, arguments: &str) -> String {
        let output = self.aws(arguments);
        assert!(!output.status.success(), "{arguments} was not refused");
        let error = text(&output.stderr);
        match error
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
        {
            Some((code, _)) => code.to_owned(),
            None => error,
        }
    }

    /// One request to the steering pages.
    pub(crate) fn steer(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.endpoint).unwrap();
        write!(
            stream,
            "{method} /_stage/{path} HTTP/1.1\r\nhost: stage\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Repeats a look until it shows what is waited for, for at most 20 s.
pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    for _ in 0..200 {
        if look() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come");
}

fn tool(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("POWERPOLE_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
                .map(|base| base.join("powerpole"))
        });
    let cached = cache
        .and_then(|cache| std::fs::read_dir(cache).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .find(|path| path.exists());
    cached.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| runs(file))
    })
}

fn runs(file: &Path) -> bool {
    file.exists()
        && Command::new(file)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("AWS_PAGER", "")
            .status()
            .is_ok()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn wait_for(address: &str) {
    eventually(address, || TcpStream::connect(address).is_ok());
}
