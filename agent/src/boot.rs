//! The boot of a bastion, from power-on to `ready`: a list of steps, each fail-closed and timed.
//!
//! What a step brings up is put into [`Bastion`] at once, so that a later failure finds and closes it.

use crate::account::{Account, NoReader, Servers};
use crate::broker::{Broker, BrokerConfig};
use crate::clock::{self, BootTime};
use crate::closing;
use crate::config::Config;
use crate::control::{Control, persist};
use crate::evidence::{Evidence, EvidenceConfig, Recorder};
use crate::failure::{Coded, Failure};
use crate::firewall;
use crate::handoff;
use crate::imds::Identity;
use crate::mounts;
use crate::password;
use crate::patch::{self, Patch, Patched};
use crate::sql::SqlEndpoint;
use crate::ssm;
use crate::steps::Steps;
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use powerpole_chain::{EpochPolicy, Genesis, Kind};
use powerpole_protocol::boot::BootDocument;
use powerpole_protocol::callback::{Answer, Hello, Ready};
use powerpole_protocol::envelope::key_text;
use powerpole_protocol::handoff::Handoff;
use powerpole_protocol::sealed::SealedSecret;
use powerpole_protocol::secret::Secret;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// This build of the agent, as the chain's genesis names it.
pub(crate) const AGENT: &str = concat!("powerpole-agent ", env!("CARGO_PKG_VERSION"));

/// How long a deleted handoff may still be readable.
const DELETE_LIMIT: Duration = Duration::from_secs(30);

/// What is known before anything is brought up.
pub(crate) struct Machine {
    /// This image's places and limits.
    pub(crate) config: Config,
    /// Who this machine is.
    pub(crate) identity: Identity,
    /// What it is for.
    pub(crate) document: BootDocument,
    /// The kernel's boot id.
    pub(crate) boot_id: String,
    /// The SDK's settings.
    pub(crate) aws: aws_config::SdkConfig,
    /// The way to control.
    pub(crate) control: Control,
    /// Key of the callbacks; lives in this process only.
    pub(crate) bastion_key: SigningKey,
}

/// What has been brought up; whatever is here must be closed.
#[derive(Default)]
pub(crate) struct Bastion {
    /// The handoff, once it is redeemed.
    pub(crate) handoff: Option<Handoff>,
    /// The chain.
    pub(crate) evidence: Option<Evidence>,
    /// The recorder's database endpoint.
    pub(crate) sql: Option<SqlEndpoint>,
    /// The broker.
    pub(crate) broker: Option<Broker>,
    /// The database account.
    pub(crate) account: Option<Arc<Account>>,
}

/// The window of a bastion that is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// When it ends, in UTC.
    pub(crate) deadline: Timestamp,
    /// When control's answer was read.
    pub(crate) opened: BootTime,
    /// How much of it was left then.
    pub(crate) left: Duration,
}

/// What a boot that did not fail came to.
#[derive(Debug)]
pub(crate) enum Booted {
    /// The bastion is ready.
    Ready(Window),
    /// Nothing of the grant was begun: systemd reboots the machine for its patch as soon as the agent ends.
    Reboots,
}

/// Boots the bastion. Everything that is up is in `bastion`, also after a failure.
///
/// # Errors
/// The step that failed; nothing after it was begun.
pub(crate) async fn boot(
    machine: &Machine,
    bastion: &mut Bastion,
    steps: &mut Steps,
) -> Result<Booted, Failure> {
    let config = &machine.config;
    let document = &machine.document;
    let secrets = aws_sdk_secretsmanager::Client::new(&machine.aws);

    // Nobody comes in from outside while the machine is patched, either.
    steps
        .take(
            "door",
            seconds(20),
            firewall::apply(config, &BTreeSet::new()),
        )
        .await?;
    let Some(patched) = patch(machine, steps).await? else {
        return Ok(Booted::Reboots);
    };

    let wait = seconds(config.handoff_limit_s);
    let text = steps
        .take(
            "handoff",
            wait + seconds(30),
            handoff::fetch(&secrets, &document.handoff, wait),
        )
        .await?;
    steps
        .take(
            "handoff_gone",
            DELETE_LIMIT * 2,
            handoff::delete(&secrets, &document.handoff, DELETE_LIMIT),
        )
        .await?;
    let handoff = Handoff::parse(
        &text,
        &document.request,
        document.attempt,
        &machine.identity.instance,
    )
    .map_err(|error| Failure::of("handoff", &handoff::SecretError::Handoff(error)))?;
    drop(text);
    let hello = hello(machine, &handoff);
    steps
        .take(
            "hello",
            seconds(120),
            persist(seconds(90), || machine.control.hello(&hello)),
        )
        .await?;
    drop(hello);
    let handoff = &*bastion.handoff.insert(handoff);

    let evidence = steps
        .take(
            "genesis",
            seconds(60),
            Evidence::begin(evidence_config(machine, handoff), &machine.aws),
        )
        .await?;
    let evidence = &*bastion.evidence.insert(evidence);
    let recorder = evidence.recorder();
    recorder
        .record_json(Kind::Event, 0, &patched.event())
        .map_err(|error| Failure::of("evidence", &error))?;

    let access = &handoff.database;
    let secret = steps
        .take(
            "grantor",
            seconds(30),
            handoff::grantor(&secrets, &access.grantor_secret, &handoff.grant.cluster),
        )
        .await?;
    let (servers, grantor) =
        Servers::of(secret, access.session).map_err(|error| Failure::of("grantor", &error))?;
    steps
        .take(
            "lockdown",
            seconds(20),
            firewall::apply(config, &servers.ports()),
        )
        .await?;
    steps
        .take("mounts", seconds(20), async { mounts::close(config) })
        .await?;

    let password = password::generate().map_err(|error| Failure::of("account", &error))?;
    let account = steps
        .take(
            "account",
            seconds(60),
            Account::open(&servers, grantor, &handoff.ticket, &password),
        )
        .await?;
    let account = &*bastion.account.insert(Arc::new(account));
    steps
        .take("account_works", seconds(60), account.prove(&password))
        .await?;
    note(&recorder, "account_opened", account.name_host())?;

    let sql = steps
        .take(
            "sql_endpoint",
            seconds(20),
            SqlEndpoint::start(
                config,
                servers.session(),
                account.user(),
                recorder.clone(),
                evidence.gate(),
            ),
        )
        .await?;
    let sql = &*bastion.sql.insert(sql);
    let broker = steps
        .take(
            "broker",
            seconds(20),
            Broker::start(
                broker_config(machine, handoff),
                recorder.clone(),
                evidence.gate(),
            ),
        )
        .await?;
    bastion.broker = Some(broker);

    steps
        .take(
            "ssm_online",
            seconds(config.ssm_limit_s + 30),
            ssm::start_and_wait(config),
        )
        .await?;

    let ready = ready(machine, evidence, account, sql, &password, steps)?;
    let limit = seconds(config.ready_limit_s);
    let answer = steps
        .take(
            "ready",
            limit + seconds(30),
            persist(limit, || machine.control.ready(&ready)),
        )
        .await?;
    // From here on only the operator has the password.
    drop(password);
    let window = window(&answer, Duration::from_secs(handoff.grant.duration_s))
        .ok_or_else(|| Failure::of("ready", &NoDeadline))?;
    let deadline_s = u64::try_from(window.deadline.as_second()).unwrap_or(0);
    steps
        .take("deadline", seconds(60), account.set_deadline(deadline_s))
        .await?;
    steps
        .take(
            "timer",
            seconds(20),
            crate::power::arm_timer(window.left + closing::GRACE),
        )
        .await?;
    note(&recorder, "ready", &window.deadline.to_string())?;
    Ok(Booted::Ready(window))
}

/// Patches the machine; nothing if that takes a reboot, which systemd then does when the agent ends.
async fn patch(machine: &Machine, steps: &mut Steps) -> Result<Option<Patched>, Failure> {
    let config = &machine.config;
    let earlier = patch::Earlier::find().map_err(|error| Failure::of("patch", &error))?;
    let limit = seconds(config.patch_limit_s);
    let limit = earlier.as_ref().map_or(limit, |boot| boot.left(limit));
    let upgrade = patch::upgrade(config, &machine.document.release, earlier.as_ref());
    match steps.take("patch", limit, upgrade).await? {
        Patch::Done(patched) => Ok(Some(patched)),
        Patch::Reboot => {
            let reboot = crate::power::reboot_at_exit();
            steps.take("reboot", seconds(30), reboot).await?;
            Ok(None)
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Notes a step of this bastion in the chain.
fn note(recorder: &Recorder, event: &str, detail: &str) -> Result<(), Failure> {
    let payload = serde_json::json!({ "event": event, "detail": detail }).to_string();
    recorder
        .record(Kind::Event, 0, payload.as_bytes())
        .map_err(|error| Failure::of("evidence", &error))
}

/// Control answered `ready` without a deadline.
#[derive(Debug, thiserror::Error)]
#[error("control named no deadline")]
struct NoDeadline;

impl Coded for NoDeadline {
    fn code(&self) -> &'static str {
        "deadline_missing"
    }
}

impl Coded for NoReader {
    fn code(&self) -> &'static str {
        "no_reader"
    }
}

impl Coded for password::NoRandomness {
    fn code(&self) -> &'static str {
        "no_randomness"
    }
}

impl Coded for powerpole_protocol::sealed::SealedError {
    fn code(&self) -> &'static str {
        "password_not_sealed"
    }
}

/// The window that control's answer opens. A clock that is wrong can shorten it, never lengthen it.
fn window(answer: &Answer, duration: Duration) -> Option<Window> {
    let deadline = answer.deadline?;
    let until = deadline.duration_since(clock::utc());
    let left = Duration::try_from(until)
        .unwrap_or(Duration::ZERO)
        .min(duration);
    Some(Window {
        deadline,
        opened: clock::boottime(),
        left,
    })
}

fn hello(machine: &Machine, handoff: &Handoff) -> Hello {
    Hello {
        request: handoff.request.clone(),
        attempt: handoff.attempt,
        instance: machine.identity.instance.clone(),
        boot_token: machine.document.boot_token.duplicate(),
        handoff_token: handoff.token.duplicate(),
        bastion_key: key_text(&machine.bastion_key.verifying_key()),
        agent: AGENT.to_owned(),
        boot: machine.boot_id.clone(),
    }
}

fn evidence_config(machine: &Machine, handoff: &Handoff) -> EvidenceConfig {
    let grant = &handoff.grant;
    let started = clock::utc();
    EvidenceConfig {
        spool_dir: machine.config.spool_dir.clone(),
        places: handoff.evidence.clone(),
        times: handoff.times.clone(),
        genesis: Genesis {
            request: handoff.request.to_string(),
            attempt: handoff.attempt.0,
            operator: grant.operator.to_string(),
            principal: grant.principal.clone(),
            approver: grant.approver.to_string(),
            approved_at: grant.approved_at.to_string(),
            reason: grant.reason.clone(),
            cluster: grant.cluster.to_string(),
            level: grant.level.to_string(),
            schemas: grant.schemas.iter().map(ToString::to_string).collect(),
            account: format!("'{}'@'{}'", grant.account, machine.identity.address),
            aws_account: machine.identity.account.clone(),
            region: machine.identity.region.clone(),
            instance: machine.identity.instance.to_string(),
            image: machine.identity.image.clone(),
            boot: machine.boot_id.clone(),
            agent: AGENT.to_owned(),
            log_group: handoff.evidence.log_group.clone(),
            log_stream: handoff.evidence.log_stream.clone(),
            started_us: u64::try_from(started.as_microsecond()).unwrap_or(0),
            policy: EpochPolicy::default(),
        },
    }
}

fn broker_config(machine: &Machine, handoff: &Handoff) -> BrokerConfig {
    BrokerConfig {
        principal: handoff.grant.principal.clone(),
        instance: machine.identity.instance.to_string(),
        socket: machine.config.broker_socket.clone(),
        shell: machine.config.shell.clone(),
        ssm_user: machine.config.ssm_user.clone(),
        operator_user: machine.config.operator_user.clone(),
    }
}

fn ready(
    machine: &Machine,
    evidence: &Evidence,
    account: &Account,
    sql: &SqlEndpoint,
    password: &Secret,
    steps: &Steps,
) -> Result<Ready, Failure> {
    let document = &machine.document;
    let password = SealedSecret::seal(
        password,
        &document.control.sealing_key,
        &document.request,
        document.attempt,
    )
    .map_err(|error| Failure::of("ready", &error))?;
    Ok(Ready {
        request: document.request.clone(),
        attempt: document.attempt,
        instance: machine.identity.instance.clone(),
        account: account.name_host().to_owned(),
        mysql_line: sql.mysql_line(account.user()),
        password,
        genesis_head: evidence.genesis_head(),
        anchor_prefix: evidence.anchor_prefix(),
        steps: steps.times(),
    })
}
