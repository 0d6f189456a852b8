//! What every case works with: the stage that runs, and the steps that many cases share.

use crate::demo::owner_query;
use crate::hub::{Leftovers, Process};
use crate::journey::{
    Delivered, Form, HttpError, Item, Ledger, Login, Slack, Verdict, aws, export, rolls, verify,
    verify_strictly,
};
use crate::supervisor::{PEOPLE, Person, Running};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The servers of the stage's clusters.
pub(super) const PARTS: [&str; 2] = ["mysql", "mariadb"];
/// For what control or the workspace does by itself.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// For a bastion's boot.
pub(super) const BOOT: Duration = Duration::from_secs(120);
/// For closing after a deadline.
pub(super) const CLOSING: Duration = Duration::from_secs(90);

/// A stage and the doors to it.
pub(super) struct Scene {
    running: Mutex<Running>,
    /// The workspace.
    pub(super) slack: Slack,
    /// The ledger.
    pub(super) ledger: Ledger,
    /// Environment of every person, in the order of [`PEOPLE`].
    environments: Vec<Vec<(String, String)>>,
    powerpole: std::path::PathBuf,
    /// The stage's folder.
    pub(super) dir: std::path::PathBuf,
    /// The AWS endpoint on the host.
    pub(super) aws: String,
    /// The stage as the hub knows it.
    pub(super) stage: crate::hub::Stage,
    cases: AtomicU32,
    /// One person fills in one modal at a time.
    pub(super) asking: Mutex<()>,
}

/// A grant whose bastion is ready.
pub(super) struct Open {
    /// The request's id.
    pub(super) request: String,
    /// The instance.
    pub(super) instance: String,
    /// What the DM gave.
    pub(super) delivered: Delivered,
}

/// One record, as an exported line holds it.
#[derive(Debug)]
pub(super) struct Line {
    /// Its kind's letter.
    pub(super) kind: String,
    /// The login's number.
    pub(super) session: u64,
    /// Its payload.
    pub(super) payload: String,
    /// The line itself.
    pub(super) text: String,
}

pub(super) const ALICE: Person = PEOPLE[0];
pub(super) const BOB: Person = PEOPLE[1];
pub(super) const CAROL: Person = PEOPLE[2];
pub(super) const MALLORY: Person = PEOPLE[4];

impl Scene {
    pub(super) fn new(running: Running) -> Self {
        Self {
            slack: Slack::at(&running.page_url()),
            ledger: Ledger::at(&running.aws_url()),
            environments: PEOPLE
                .iter()
                .map(|person| running.environment(person.name))
                .collect(),
            powerpole: running.files.binary("powerpole"),
            dir: running.files.dir.clone(),
            aws: running.aws_url(),
            stage: running.stage.clone(),
            running: Mutex::new(running),
            cases: AtomicU32::new(0),
            asking: Mutex::new(()),
        }
    }

    pub(super) fn into_running(self) -> Running {
        self.running.into_inner()
    }

    /// The stage itself, for cases that break a part of it.
    pub(super) async fn running(&self) -> tokio::sync::MutexGuard<'_, Running> {
        self.running.lock().await
    }

    /// A reason that no other case has.
    pub(super) fn reason(&self, what: &str) -> String {
        format!("{what} ({})", self.cases.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks as `person`.
    pub(super) async fn ask(
        &self,
        person: Person,
        cluster: &str,
        level: &str,
        duration_s: u64,
    ) -> anyhow::Result<String> {
        let _asking = self.asking.lock().await;
        let reason = self.reason("end-to-end test");
        let form = Form {
            cluster,
            level,
            schema: "orders",
            duration_s,
            reason: &reason,
        };
        self.slack
            .request(person, &form)
            .await
            .context("asking in Slack")
    }

    /// Asks as Alice, approves as Bob, waits for the DM.
    pub(super) async fn open(
        &self,
        cluster: &str,
        level: &str,
        duration_s: u64,
    ) -> anyhow::Result<Open> {
        let request = self.ask(ALICE, cluster, level, duration_s).await?;
        self.slack
            .approve(BOB, &request)
            .await
            .context("approving in Slack")?;
        self.opened(&request, BOOT).await
    }

    /// Waits for the DM of a request that was approved.
    pub(super) async fn opened(&self, request: &str, limit: Duration) -> anyhow::Result<Open> {
        let item = self
            .ledger
            .until(request, "READY", limit, |item| {
                matches!(item.state(), "READY" | "FAILED")
            })
            .await?;
        ensure!(
            item.state() == "READY",
            "the bastion failed in {}: {}",
            item.text("failed_step"),
            item.text("failed_message")
        );
        let delivered = self.slack.delivered(request, SOON).await?;
        Ok(Open {
            request: request.to_owned(),
            instance: item.text("instance").to_owned(),
            delivered,
        })
    }

    /// Logs in with the DM's line.
    pub(super) async fn login(&self, person: Person, open: &Open) -> anyhow::Result<Login> {
        let mut login = Login::open(&open.delivered.session_line, self.environment(person))?;
        login
            .expect("$ ", SOON)
            .await
            .context("waiting for the shell's prompt")?;
        Ok(login)
    }

    /// Opens the database in a session.
    pub(super) async fn mysql(&self, login: &mut Login, open: &Open) -> anyhow::Result<()> {
        login
            .send(&format!("{}\n", open.delivered.mysql_line))
            .await?;
        login
            .expect("assword:", SOON)
            .await
            .context("waiting for mysql's password prompt")?;
        login
            .send(&format!("{}\n", open.delivered.password))
            .await?;
        login
            .expect("> ", SOON)
            .await
            .context("waiting for mysql's prompt")?;
        Ok(())
    }

    /// A person's environment.
    pub(super) fn environment(&self, person: Person) -> &[(String, String)] {
        let at = PEOPLE
            .iter()
            .position(|other| other.name == person.name)
            .unwrap_or(0);
        self.environments.get(at).map_or(&[], Vec::as_slice)
    }

    /// Waits for a final state, and answers the item.
    pub(super) async fn closed(&self, request: &str, limit: Duration) -> anyhow::Result<Item> {
        Ok(self
            .ledger
            .until(request, "the end", limit, |item| {
                matches!(item.state(), "CLOSED" | "FAILED")
            })
            .await?)
    }

    /// Waits until EC2 has the request's instance as terminated.
    pub(super) async fn terminated(&self, request: &str, limit: Duration) -> anyhow::Result<Item> {
        Ok(self
            .ledger
            .until(request, "the instance's end", limit, |item| {
                !item.text("terminated_at").is_empty()
            })
            .await?)
    }

    /// Exports and verifies.
    pub(super) async fn verdict(&self, request: &str) -> anyhow::Result<Verdict> {
        self.export(request, request).await?;
        let dir = self.dir.join("evidence").join(request);
        verify(&self.powerpole, &dir).await
    }

    /// The exit code of a strict look at what was exported for the verdict.
    pub(super) async fn strict_code(&self, request: &str) -> anyhow::Result<i32> {
        verify_strictly(&self.powerpole, &self.dir.join("evidence").join(request)).await
    }

    /// The records that are there now, of a request that may be open.
    pub(super) async fn early_lines(&self, request: &str) -> anyhow::Result<Vec<Line>> {
        let name = format!("{request}.early");
        self.export(request, &name).await?;
        self.lines(&name)
    }

    async fn export(&self, request: &str, name: &str) -> anyhow::Result<()> {
        let dir = self.dir.join("evidence").join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        export(&self.powerpole, request, &dir, self.environment(ALICE)).await
    }

    /// The records of what was exported for the verdict.
    pub(super) fn lines(&self, request: &str) -> anyhow::Result<Vec<Line>> {
        let file = self.dir.join("evidence").join(request).join("LINES.jsonl");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        Ok(text.lines().filter_map(Line::parse).collect())
    }

    /// Checks the rolls against the ledger.
    pub(super) async fn rolls(&self, ledger: &str) -> anyhow::Result<Verdict> {
        rolls(&self.powerpole, ledger, self.environment(ALICE)).await
    }

    /// The hosts from which an account named `alice` may log in now, by the server's own table.
    pub(super) async fn accounts(&self, part: &str) -> anyhow::Result<Vec<String>> {
        let running = self.running().await;
        let rows = owner_query(
            &running,
            part,
            "SELECT Host FROM mysql.user WHERE User = 'alice'",
        )
        .await?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// Waits until the account of this address is gone.
    pub(super) async fn account_gone(
        &self,
        part: &str,
        host: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < limit {
            if !self
                .accounts(part)
                .await?
                .iter()
                .any(|account| account == host)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!(
            "'alice'@'{host}' is still there after {} s",
            limit.as_secs()
        )
    }

    /// Waits until nothing of a request whose bastion had the address `host` is left: its handoff, accounts, the machine.
    pub(super) async fn nothing_left(
        &self,
        item: &Item,
        host: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        for part in PARTS {
            self.account_gone(part, host, limit).await?;
        }
        let handoff = item.text("handoff");
        ensure!(!handoff.is_empty(), "the item names no handoff");
        let look = json!({ "SecretId": handoff });
        let target = "secretsmanager.DescribeSecret";
        let there = aws(&self.aws, "secretsmanager", target, &look).await;
        ensure!(
            matches!(&there, Err(HttpError::Status { .. })),
            "the handoff {handoff} is there, or cannot be looked for: {there:?}"
        );
        self.machine_off(item.text("instance"), limit).await
    }

    /// Waits until no process, namespace and mount of an instance's machine is left.
    pub(super) async fn machine_off(&self, instance: &str, limit: Duration) -> anyhow::Result<()> {
        let namespace = self.stage.machine_namespace(&instance.parse()?);
        let began = Instant::now();
        loop {
            let left = Leftovers::of_machines(&self.stage);
            let mounted = |mount: &std::path::PathBuf| mount.to_string_lossy().contains(instance);
            let running = crate::hub::in_namespace(&namespace).len();
            let mounts = left.mounts.iter().filter(|mount| mounted(mount)).count();
            if running == 0 && mounts == 0 && !left.namespaces.contains(&namespace) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < limit,
                "{instance}: {running} processes and {mounts} mounts are left after {} s",
                limit.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Whether control's log alarms so of a request.
    pub(super) fn alarmed(&self, request: &str, alarm: &str) -> anyhow::Result<bool> {
        let log = std::fs::read_to_string(self.dir.join("logs/control.log"))
            .context("reading control's log")?;
        let says = |line: &Value, field: &str, wanted: &str| {
            line.get(field).and_then(Value::as_str) == Some(wanted)
        };
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Ok(lines
            .into_iter()
            .any(|line| says(&line, "alarm", alarm) && says(&line, "request", request)))
    }

    /// The address of a request's bastion, by EC2.
    pub(super) async fn address(&self, request: &str) -> anyhow::Result<String> {
        let item = self
            .ledger
            .item(request)
            .await?
            .context("the item is gone")?;
        let query = "Reservations[0].Instances[0].PrivateIpAddress";
        let address = self
            .describe(query, &["--instance-ids", item.text("instance")])
            .await?;
        Ok(address.trim().to_owned())
    }

    /// How many instances were ever launched for a request.
    pub(super) async fn launches(&self, request: &str) -> anyhow::Result<usize> {
        let tag = format!("Name=tag:powerpole:request,Values={request}");
        let ids = self
            .describe(
                "Reservations[].Instances[].InstanceId",
                &["--filters", &tag],
            )
            .await?;
        Ok(ids.split_whitespace().count())
    }

    async fn describe(&self, query: &str, which: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(self.dir.join("client/bin/aws"))
            .args([
                "ec2",
                "describe-instances",
                "--output",
                "text",
                "--query",
                query,
            ])
            .args(which)
            .envs(
                self.environment(ALICE)
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .output()
            .await
            .context("starting the AWS CLI")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until a process runs on a bastion.
    pub(super) async fn started(
        &self,
        instance: &str,
        begins: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < limit {
            if self.process_on(instance, begins).is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{begins:?} does not run on {instance}")
    }

    /// A process on a bastion whose command line begins so; the words are joined by blanks.
    pub(super) fn process_on(&self, instance: &str, begins: &str) -> Option<Process> {
        let instance = instance.parse().ok()?;
        let namespace = self.stage.machine_namespace(&instance);
        crate::hub::in_namespace(&namespace)
            .into_iter()
            .find(|process| {
                std::fs::read(format!("/proc/{}/cmdline", process.pid)).is_ok_and(|line| {
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    line.starts_with(begins)
                })
            })
    }
}

impl Line {
    fn parse(exported: &str) -> Option<Self> {
        use base64::Engine as _;
        let event: Value = serde_json::from_str(exported).ok()?;
        let text = event.get("message")?.as_str()?;
        let line: Value = serde_json::from_str(text).ok()?;
        let payload = base64::engine::general_purpose::STANDARD
            .decode(line.get("d")?.as_str()?)
            .ok()?;
        Some(Self {
            kind: line.get("k")?.as_str()?.to_owned(),
            session: line.get("n")?.as_u64()?,
            payload: String::from_utf8_lossy(&payload).into_owned(),
            text: text.to_owned(),
        })
    }
}
