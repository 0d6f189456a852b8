//! A stage that runs: brought up in order, each part waited for, and taken down in the reverse order.

use super::client::{AUDITOR, PEOPLE, env_file, environment};
use super::control::{self, Account};
use super::files::StageFiles;
use super::keys;
use super::layout::{
    ANCHOR_BUCKET, AWS, CONTROL_BASTIONS, GATEWAY, HUB, IMAGE_PARAMETER, LEDGER_TABLE, LOG_GROUP,
    WORKSPACE, clusters,
};
use super::say;
use crate::hub::{self, Child, Forward, Hub, Stage};
use crate::parts::{Authority, Parts, Selection, StagePaths};
use anyhow::{Context as _, bail, ensure};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Times that a stage's control keeps, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// One pass of control's timed work.
    pub(crate) tick_s: u64,
    /// From launch to ready.
    pub(crate) attempt_timeout_s: u64,
    /// What the modal offers.
    pub(crate) durations_s: Vec<u64>,
    /// When the operator is warned.
    pub(crate) warn_before_s: Vec<u64>,
    /// How often a bastion is heard of.
    pub(crate) heartbeat_s: u64,
    /// Length of a roll's period.
    pub(crate) roll_every_s: u64,
}

impl Times {
    /// For people: short windows beside real ones, warnings that a short window reaches.
    pub(crate) fn demo() -> Self {
        Self {
            tick_s: 1,
            attempt_timeout_s: 300,
            durations_s: vec![90, 300, 900, 3600],
            warn_before_s: vec![600, 300, 60, 30],
            heartbeat_s: 5,
            roll_every_s: 15,
        }
    }

    /// For tests: windows of seconds.
    pub(crate) fn test() -> Self {
        Self {
            tick_s: 1,
            attempt_timeout_s: 120,
            durations_s: vec![30, 45, 90, 600],
            warn_before_s: vec![20, 10],
            heartbeat_s: 5,
            roll_every_s: 15,
        }
    }
}

/// How long each part may take until it answers.
const PART_LIMIT: Duration = Duration::from_secs(30);
/// How long a part may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A stage that runs.
pub(crate) struct Running {
    /// Its files.
    pub(crate) files: StageFiles,
    /// Its hub.
    pub(crate) hub: Hub,
    /// The stage as the hub knows it.
    pub(crate) stage: Stage,
    /// The outside parts.
    pub(crate) parts: Parts,
    /// Control, which tests kill and start again.
    pub(crate) control: Child,
    /// The instance host.
    pub(crate) host: Child,
    others: Vec<Child>,
    forwards: Vec<Forward>,
    /// The stage's folder is this process's for as long as this lives.
    _held: std::fs::File,
    /// The workspace page on the host.
    pub(crate) page: SocketAddr,
    /// The AWS endpoint on the host.
    pub(crate) aws: SocketAddr,
    /// The session gateway on the host.
    pub(crate) gateway: SocketAddr,
    /// The unique id of the bastions' role, which auditors are told.
    role_id: String,
}

impl Running {
    /// Brings a stage up. What a failure leaves behind is taken down before it returns.
    pub(crate) async fn bring_up(name: &str, times: &Times) -> anyhow::Result<Self> {
        super::needs_root("a stage")?;
        let files = StageFiles::of(name)?;
        let held = files.hold()?;
        let stage = Stage::open(name.parse()?, &files.dir)?;
        if !hub::leftovers(&stage).none() {
            bail!(files.runs_already());
        }
        // Before there is anything to take down, so that `down` finds who brings it up.
        let own = hub::Process::own().context("finding this process")?;
        hub::write_json(&files.supervisor(), &own)?;
        files.take_binaries()?;
        // A stage begins empty: databases, ledger and workspace of an earlier run would only confuse.
        for folder in ["data", "run", "logs", "machines", "keys", "client"] {
            let path = files.dir.join(folder);
            if path.exists() {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("emptying {}", path.display()))?;
            }
        }
        let stage = Stage::open(stage.name().clone(), &files.dir)?;
        let started = Self::start(files.clone(), stage.clone(), times, held).await;
        started.map_err(|cause| {
            // Both are done, whatever becomes of the other.
            let removed = hub::remove_all(&stage).map_err(anyhow::Error::from);
            let forgotten = files.forget_secrets();
            match removed.and(forgotten) {
                Ok(()) => cause,
                Err(error) => cause.context(format!("not all of it was taken down: {error:#}")),
            }
        })
    }

    async fn start(
        files: StageFiles,
        stage: Stage,
        times: &Times,
        held: std::fs::File,
    ) -> anyhow::Result<Self> {
        let began = Instant::now();
        keys::make(&files)?;
        let hub = Hub::create(&stage)?;
        let paths = StagePaths::open(&stage.name().to_string(), &files.dir)?;
        let parts = Parts::start(&paths, Selection::all()).await?;
        say(&step(
            "databases, moto and the dnf repository answer",
            began,
        ));

        let began = Instant::now();
        let own = files.binary("powerpole-stage");
        let mut others = Vec::new();
        let data = |name: &str| files.dir.join("data").join(name).into_os_string();
        others.push(hub.spawn("aws", &words(&own, &["aws", "--data"], &[data("aws")]), &[])?);
        let page = words(
            &own,
            &["workspace"],
            &[
                "--signing-secret-file".into(),
                keys::signing_secret(&files).into_os_string(),
                "--bot-token-file".into(),
                keys::bot_token(&files).into_os_string(),
                "--state".into(),
                data("workspace"),
            ],
        );
        others.push(hub.spawn("workspace", &page, &[])?);
        let aws = hub.forward("aws", None, AWS).await?;
        let page = hub.forward("page", None, WORKSPACE).await?;
        let gateway = hub.forward("gateway", None, GATEWAY).await?;
        let addresses = (aws.address(), page.address(), gateway.address());
        let forwards = vec![aws, page, gateway];
        answering(addresses.0, "the AWS endpoint").await?;
        answering(addresses.1, "the workspace page").await?;

        let ca = Authority::open(&paths).await?.certificate();
        let account = seed(&files, addresses.0, &ca).await?;
        images(&files, &stage, &account)?;
        install_database(&files, &stage, &ca).await?;
        say(&step(
            "AWS account made, PowerPole's procedures installed on both databases",
            began,
        ));

        let began = Instant::now();
        let control = start_control(&files, &hub, &stage, &account, times).await?;
        let which = [
            "--stage".into(),
            stage.name().to_string().into(),
            "--dir".into(),
            files.dir.clone().into_os_string(),
        ];
        let host = hub.spawn("host", &words(&own, &["host", "run"], &which), &[])?;
        client_config(&files, addresses.0, addresses.2).await?;
        say(&step(
            "control, the instance host and the people's AWS CLI are there",
            began,
        ));

        Ok(Self {
            files,
            hub,
            stage,
            parts,
            control,
            host,
            others,
            forwards,
            _held: held,
            page: addresses.1,
            aws: addresses.0,
            gateway: addresses.2,
            role_id: account.role_id,
        })
    }

    /// The environment of a person's shell.
    pub(crate) fn environment(&self, person: &str) -> Vec<(String, String)> {
        environment(&self.files, self.aws, self.gateway, &self.role_id, person)
    }

    /// Writes everybody's environment to a file to be sourced, `env-<name>` in the stage's folder.
    pub(crate) fn write_environments(&self) -> anyhow::Result<()> {
        for name in PEOPLE.iter().map(|person| person.name).chain([AUDITOR]) {
            let path = self.files.dir.join(format!("env-{name}"));
            let text = env_file(&self.environment(name), name, &self.files.name());
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// The workspace page's address.
    pub(crate) fn page_url(&self) -> String {
        format!("http://{}", self.page)
    }

    /// The AWS endpoint's address.
    pub(crate) fn aws_url(&self) -> String {
        format!("http://{}", self.aws)
    }

    /// Ends all of it; what is left after that is an error.
    pub(crate) async fn take_down(mut self) -> anyhow::Result<()> {
        let _ = self.control.stop(GRACE).await;
        let _ = self.host.stop(GRACE).await;
        for other in &mut self.others {
            let _ = other.stop(GRACE).await;
        }
        for forward in self.forwards {
            let _ = forward.close().await;
        }
        let parts = self.parts.stop().await;
        let destroyed = self.hub.destroy();
        self.files.forget_secrets()?;
        destroyed?;
        let left = hub::leftovers(&self.stage);
        ensure!(
            left.none(),
            "the stage left something behind: {}",
            serde_json::to_string(&left)?
        );
        Ok(parts?)
    }
}

fn step(what: &str, began: Instant) -> String {
    format!("  {:<69} {:>6.1} s", what, began.elapsed().as_secs_f64())
}

fn words(program: &Path, fixed: &[&str], more: &[OsString]) -> Vec<OsString> {
    let mut words = vec![program.as_os_str().to_owned()];
    words.extend(fixed.iter().map(OsString::from));
    words.extend(more.iter().cloned());
    words
}

/// Waits until something listens behind a forward and answers HTTP.
async fn answering(address: SocketAddr, what: &str) -> anyhow::Result<()> {
    let url = format!("http://{address}/_stage/health");
    let began = Instant::now();
    while began.elapsed() < PART_LIMIT {
        match crate::journey::get(&url).await {
            Ok(_) | Err(crate::journey::HttpError::Status { .. }) => return Ok(()),
            Err(crate::journey::HttpError::Unreachable { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    bail!(
        "{what} did not answer within {} s; see the stage's logs",
        PART_LIMIT.as_secs()
    )
}

async fn seed(files: &StageFiles, aws: SocketAddr, ca: &Path) -> anyhow::Result<Account> {
    let mut command = Command::new(files.python("python3"));
    command
        .arg(files.clone.join("stage/aws/seed.py"))
        .env("AWS_ENDPOINT_URL", format!("http://{aws}"));
    command.args([
        "--image-parameter",
        IMAGE_PARAMETER,
        "--table",
        LEDGER_TABLE,
    ]);
    command.args(["--log-group", LOG_GROUP, "--bucket", ANCHOR_BUCKET]);
    for cluster in clusters() {
        let file = keys::write_grantor_json(files, &cluster, ca)?;
        command
            .arg("--grantor")
            .arg(format!("{}={}", cluster.grantor_secret(), file.display()));
        if cluster.key_in_kms {
            let file = keys::ticket_key(files, &cluster);
            command.arg("--ticket-key").arg(format!(
                "{}={}",
                cluster.ticket_alias(),
                file.display()
            ));
        }
    }
    let output = output(command, "making the stage's AWS account").await?;
    serde_json::from_slice(&output).context("reading what the stage's AWS account was made of")
}

/// Tells the instance host which layers the account's image stands for.
fn images(files: &StageFiles, stage: &Stage, account: &Account) -> anyhow::Result<()> {
    let baked = files.clone.join(".stage/image.json");
    let text = std::fs::read(&baked)
        .with_context(|| format!("{} is missing: `make image`", baked.display()))?;
    let layers: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", baked.display()))?;
    hub::write_json(
        &stage.images(),
        &serde_json::json!({ account.ami.as_str(): layers }),
    )?;
    Ok(())
}

async fn install_database(files: &StageFiles, stage: &Stage, ca: &Path) -> anyhow::Result<()> {
    for cluster in clusters().iter().filter(|cluster| cluster.installed) {
        let part = if cluster.port == 3306 {
            "mysql"
        } else {
            "mariadb"
        };
        let password = files.dir.join("run").join(format!("{part}-owner.password"));
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &stage.hub_namespace()])
            .arg(files.binary("powerpole"));
        command.args(["database", "install", "--host", &HUB.to_string()]);
        command
            .args([
                "--port",
                &cluster.port.to_string(),
                "--user",
                "root",
                "--password-file",
            ])
            .arg(password);
        command
            .arg("--ca-file")
            .arg(ca)
            .args(["--schemas", &cluster.schemas.join(",")]);
        command.args(["--grantor", keys::GRANTOR, "--grantor-password-file"]);
        command.arg(keys::grantor_password(files, cluster));
        command
            .arg("--ticket-key-file")
            .arg(keys::ticket_key(files, cluster));
        command.args(["--ticket-key-id", "k1"]);
        output(command, "installing PowerPole's procedures").await?;
    }
    Ok(())
}

async fn start_control(
    files: &StageFiles,
    hub: &Hub,
    stage: &Stage,
    account: &Account,
    times: &Times,
) -> anyhow::Result<Child> {
    let program = files.binary("powerpole-control");
    let mut keygen = Command::new(&program);
    keygen
        .args(["keygen", "--dir"])
        .arg(files.keys().join("control"));
    output(keygen, "making control's keys").await?;
    let path = files.dir.join("control.toml");
    let text = control::config(files, account, times).context("writing control's configuration")?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let env = [
        ("AWS_ENDPOINT_URL", format!("http://{AWS}")),
        ("AWS_ACCESS_KEY_ID", "AKIASTAGEPLATFORM000".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "stage".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let argv = words(&program, &["run", "--config"], &[path.into_os_string()]);
    let control = hub.spawn("control", &argv, &env)?;
    let mut probe = Command::new("ip");
    probe.args([
        "netns",
        "exec",
        &stage.hub_namespace(),
        "curl",
        "--silent",
        "--fail",
        "--retry",
        "60",
    ]);
    probe.args([
        "--retry-delay",
        "1",
        "--retry-connrefused",
        "--max-time",
        "30",
    ]);
    probe.arg(format!("http://{CONTROL_BASTIONS}/healthz"));
    output(probe, "waiting for control")
        .await
        .with_context(|| {
            format!(
                "control did not start; see {}",
                stage.logs().join("control.log").display()
            )
        })?;
    Ok(control)
}

async fn client_config(
    files: &StageFiles,
    aws: SocketAddr,
    gateway: SocketAddr,
) -> anyhow::Result<()> {
    let mut command = Command::new(files.binary("powerpole-stage"));
    command
        .args(["ssm", "client-config", "--dir"])
        .arg(files.dir.join("client"));
    command.args([
        "--endpoint",
        &format!("http://{aws}"),
        "--gateway",
        &gateway.to_string(),
        "--aws",
    ]);
    command.arg(files.python("aws"));
    output(command, "writing the people's AWS profiles")
        .await
        .map(|_| ())
}

async fn output(mut command: Command, what: &str) -> anyhow::Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{what}: starting {:?}", command.as_std().get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{what} failed ({}): {}", output.status, tail.join("\n"));
    }
    Ok(output.stdout)
}
