//! A stage with nothing in it but a hub, moto and the instance host, and a root with a probe in it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary under test: in the folder that POWERPOLE_TEST_BIN names, or cargo's own.
fn binary() -> PathBuf {
    std::env::var_os("POWERPOLE_TEST_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_powerpole-stage").into(),
        |folder| Path::new(&folder).join("powerpole-stage"),
    )
}

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/machine");

pub struct Lab {
    dir: tempfile::TempDir,
    name: String,
    children: Vec<Child>,
    pub host: Option<Child>,
    endpoint: SocketAddr,
    image: String,
    subnet: String,
}

impl Lab {
    /// Starts one, or says loudly why it cannot.
    pub fn start() -> Option<Self> {
        let tools = match Tools::find() {
            Ok(tools) => tools,
            Err(why) => {
                eprintln!("SKIPPED: {why}");
                return None;
            }
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "t{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::tempdir().unwrap();
        let mut lab = Self {
            dir,
            name,
            children: Vec::new(),
            host: None,
            endpoint: SocketAddr::from(([127, 0, 0, 1], 0)),
            image: String::new(),
            subnet: String::new(),
        };
        lab.succeeds(&["hub", "up"], &[]);
        let layer = lab.dir().join("layer");
        probe_layer(&layer);
        let moto = tools.moto.to_str().unwrap();
        let serve = [
            "--name",
            "moto",
            "--",
            moto,
            "-H",
            "10.77.0.1",
            "-p",
            "4566",
        ];
        let serving = lab
            .command(&["hub", "run"], &serve)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        lab.children.push(serving);
        let mut forward = lab
            .command(
                &["hub", "forward"],
                &["--name", "aws", "--to", "10.77.0.1:4566"],
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(forward.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        lab.children.push(forward);
        lab.endpoint = line.trim().parse().unwrap();
        eventually("moto answers", Duration::from_secs(30), || {
            lab.try_call("ec2", "DescribeVpcs", &[]).is_some()
        });

        let vpc = lab.ec2("CreateVpc", &[("CidrBlock", "10.77.0.0/16")]);
        let vpc = text_of(&vpc, "vpcId").unwrap();
        let subnet = lab.ec2(
            "CreateSubnet",
            &[("VpcId", &vpc), ("CidrBlock", "10.77.64.0/18")],
        );
        lab.subnet = text_of(&subnet, "subnetId").unwrap();
        lab.image = text_of(&lab.ec2("RegisterImage", &[("Name", "bastion")]), "imageId").unwrap();
        let role = [
            ("RoleName", "PowerPoleBastion"),
            ("AssumeRolePolicyDocument", "%7B%7D"),
        ];
        lab.call("iam", "CreateRole", &role);
        let profile = ("InstanceProfileName", "PowerPoleBastion");
        lab.call("iam", "CreateInstanceProfile", &[profile]);
        lab.call("iam", "AddRoleToInstanceProfile", &[profile, role[0]]);
        let images = serde_json::json!({ &lab.image: [layer, tools.root] });
        std::fs::write(lab.dir().join("images.json"), images.to_string()).unwrap();
        lab.start_host();
        Some(lab)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn start_host(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir().join("logs/host.log"))
            .unwrap();
        let mut command = self.command(&["host", "run"], &[]);
        self.host = Some(command.env("RUST_LOG", "info").stderr(log).spawn().unwrap());
    }

    pub fn kill_host(&mut self) {
        let mut host = self.host.take().unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
    }

    /// RunInstances with a power-off behaviour and an order for the probe.
    pub fn launch_with(&self, behaviour: &str, order: &str) -> String {
        let order = match order {
            "poweroff" => "cG93ZXJvZmY%3D",
            "reboot" => "cmVib290",
            _ => "c3RheQ%3D%3D",
        };
        let answer = self.ec2(
            "RunInstances",
            &[
                ("ImageId", &self.image),
                ("MinCount", "1"),
                ("MaxCount", "1"),
                ("InstanceType", "t3.micro"),
                ("SubnetId", &self.subnet),
                ("UserData", order),
                ("InstanceInitiatedShutdownBehavior", behaviour),
                ("IamInstanceProfile.Name", "PowerPoleBastion"),
                ("MetadataOptions.InstanceMetadataTags", "enabled"),
                ("TagSpecification.1.ResourceType", "instance"),
                ("TagSpecification.1.Tag.1.Key", "powerpole:request"),
                ("TagSpecification.1.Tag.1.Value", "req-1"),
            ],
        );
        text_of(&answer, "instanceId").unwrap()
    }

    pub fn launch(&self, order: &str) -> String {
        self.launch_with("terminate", order)
    }

    pub fn ec2(&self, action: &str, args: &[(&str, &str)]) -> String {
        self.call("ec2", action, args)
    }

    pub fn state(&self, instance: &str) -> String {
        let answer = self.ec2("DescribeInstances", &[("InstanceId.1", instance)]);
        let (_, state) = answer.split_once("<instanceState>").unwrap();
        text_of(state, "name").unwrap()
    }

    /// How often the machine has reached its multi-user target.
    pub fn boots_seen(&self, instance: &str) -> usize {
        let console = std::fs::read(self.machine(instance).join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&console)
            .matches("systemd[1]: Reached target multi-user.target")
            .count()
    }

    /// Waits for the machine's multi-user target, and says how long that took.
    pub fn booted(&self, instance: &str) -> Duration {
        eventually("the machine is up", Duration::from_secs(30), || {
            self.boots_seen(instance) > 0
        })
    }

    pub fn machine(&self, instance: &str) -> PathBuf {
        self.dir().join("machines").join(instance)
    }

    /// What the probe found, once it has finished.
    pub fn findings(&self, instance: &str) -> BTreeMap<String, String> {
        let file = self.machine(instance).join("upper/var/lib/probe/findings");
        eventually("the probe is done", Duration::from_secs(30), || {
            file.exists()
        });
        let text = std::fs::read_to_string(file).unwrap();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    pub fn listed(&self, instance: &str) -> serde_json::Value {
        let output = self.succeeds(&["host", "list"], &["--json"]);
        let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        all.into_iter()
            .find(|one| one["instance"] == instance)
            .unwrap_or_default()
    }

    /// `hub status`: what is left of the machines alone, or of the whole stage.
    pub fn left(&self, machines: bool) -> serde_json::Value {
        let output = self
            .command(
                &["hub", "status"],
                if machines { &["--machines"] } else { &[] },
            )
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn namespace(&self, of: &str) -> String {
        format!("pp-{}-{of}", self.name)
    }

    pub fn command(&self, words: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(words)
            .args(["--stage", &self.name])
            .arg("--dir")
            .arg(self.dir())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn succeeds(&self, words: &[&str], args: &[&str]) -> Output {
        let output = self.command(words, args).output().unwrap();
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    pub fn call_as(
        &self,
        key: &str,
        service: &str,
        action: &str,
        args: &[(&str, &str)],
    ) -> Option<String> {
        let version = match service {
            "ec2" => "2016-11-15",
            "iam" => "2010-05-08",
            _ => "2011-06-15",
        };
        let mut body = format!("Action={action}&Version={version}");
        for (name, value) in args {
            body.push_str(&format!("&{name}={}", value.replace('/', "%2F")));
        }
        let mut stream = TcpStream::connect(self.endpoint).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(
            stream,
            "POST / HTTP/1.0\r\nHost: {service}.us-east-1.amazonaws.com\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=00\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }

    fn try_call(&self, service: &str, action: &str, args: &[(&str, &str)]) -> Option<String> {
        self.call_as("AKIASTAGETEST0000000", service, action, args)
    }

    fn call(&self, service: &str, action: &str, args: &[(&str, &str)]) -> String {
        self.try_call(service, action, args)
            .unwrap_or_else(|| panic!("{action} failed"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["logs/host.log", "logs/keepers.log"] {
                let text = std::fs::read_to_string(self.dir().join(log)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                eprintln!(
                    "--- {log}\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
        let _ = self.command(&["hub", "down"], &[]).output();
        for child in self.children.iter_mut().chain(self.host.iter_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until it holds, looking every 20 ms, and says how long that took.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// The text of the first element of that name.
pub fn text_of(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0.to_owned())
}

struct Tools {
    moto: PathBuf,
    root: PathBuf,
}

impl Tools {
    fn find() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("machines need root".to_owned());
        }
        for tool in ["/usr/bin/systemd-nspawn", "/usr/sbin/nft"] {
            if !Path::new(tool).exists() {
                return Err(format!("{tool} is not installed"));
            }
        }
        let cache = std::env::var_os("POWERPOLE_CACHE")
            .map(PathBuf::from)
            .unwrap_or_else(|| {
                let home =
                    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
                let caches = std::env::var_os("XDG_CACHE_HOME")
                    .map_or_else(|| home.join(".cache"), PathBuf::from);
                caches.join("powerpole")
            });
        let moto = cache.join("venv-stage/bin/moto_server");
        if !moto.exists() {
            return Err(format!(
                "{} is missing: `make stage-up` installs it",
                moto.display()
            ));
        }
        let root = match std::env::var_os("POWERPOLE_TEST_ROOT") {
            Some(root) => PathBuf::from(root),
            None => newest_base(&cache)
                .ok_or("no image-base-* in the cache: `make stage-up` installs one")?,
        };
        Ok(Self { moto, root })
    }
}

fn newest_base(cache: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(cache).ok()?.flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("image-base-")
        })
        .map(|entry| entry.path().join("root"))
        .filter(|root| root.join("usr/lib/systemd/systemd").exists())
        .max_by_key(|root| {
            root.metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        })
}

fn probe_layer(layer: &Path) {
    let units = layer.join("etc/systemd/system");
    std::fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
    std::fs::create_dir_all(layer.join("usr/local/lib")).unwrap();
    std::fs::copy(
        format!("{PROBE}/probe.service"),
        units.join("probe.service"),
    )
    .unwrap();
    std::fs::copy(
        format!("{PROBE}/probe.sh"),
        layer.join("usr/local/lib/probe.sh"),
    )
    .unwrap();
    std::os::unix::fs::symlink(
        "../probe.service",
        units.join("multi-user.target.wants/probe.service"),
    )
    .unwrap();
}
