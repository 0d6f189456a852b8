//! One control on one moto and one Slack, and a bastion's side of the conversation.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use powerpole_control::aws::cloud::Aws;
use powerpole_control::aws::rolls::RollBucket;
use powerpole_control::clock::Clock;
use powerpole_control::config::Config;
use powerpole_control::keys::{self, Keys};
use powerpole_control::ledger::Ledger;
use powerpole_control::ledger::dynamodb::DynamoDb;
use powerpole_control::ledger::item::Item;
use powerpole_control::roll::RollMemory;
use powerpole_control::service::Service;
use powerpole_control::slack::client::SlackApi;
use powerpole_control::tick::execute;
use powerpole_control::{bastion_api, slack_api};
use powerpole_protocol::boot::BootDocument;
use powerpole_protocol::callback::{Answer, ChainHead, Heartbeat, Ready};
use powerpole_protocol::envelope::{Envelope, Message, body_digest, key_text};
use powerpole_protocol::handoff::Handoff;
use powerpole_protocol::id::{InstanceId, RequestId};
use powerpole_protocol::sealed::SealedSecret;
use powerpole_protocol::secret::Secret;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The workspace of the shipped example.
pub(crate) const TEAM: &str = "T0POWERPOLE";
/// The bastions' role of the shipped example.
pub(crate) const ROLE_ID: &str = "AROASTAGEBASTION00000";
pub(crate) const PASSWORD: &str = "pw-<&>-never-stored";
const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

pub(crate) struct Moto {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Logs;

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGS.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The alarms that control has logged about a request, as the shipped binary logs them.
pub(crate) fn alarms(request: &RequestId) -> Vec<String> {
    let logs = String::from_utf8(LOGS.lock().unwrap().clone()).unwrap();
    let lines = logs
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours = lines.filter(|line| line["request"] == request.as_str());
    ours.filter_map(|line| line["alarm"].as_str().map(str::to_owned))
        .collect()
}

/// Starts moto, or says loudly that this test shows nothing.
pub(crate) async fn moto() -> Option<Moto> {
    let Some(server) = moto_server() else {
        eprintln!("SKIPPED: no moto in the cache: stage/install/all.sh python installs it");
        return None;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // One call at a time: moto's threads share dictionaries without locks, so that of two conditional writes at once
    // both can win. What these tests race is control, not moto.
    const SERVE: &str = "import sys; from werkzeug.serving import run_simple; \
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app; \
        run_simple('127.0.0.1', int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)";
    let child = Command::new(server.with_file_name("python3"))
        .args(["-c", SERVE, &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let moto = Moto {
        child,
        url: format!("http://127.0.0.1:{port}"),
    };
    for _ in 0..600 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return Some(moto);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("moto did not start");
}

fn moto_server() -> Option<PathBuf> {
    let given = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = given("POWERPOLE_CACHE")
        .or_else(|| given("XDG_CACHE_HOME").map(|path| path.join("powerpole")))
        .or_else(|| given("HOME").map(|path| path.join(".cache/powerpole")))?;
    Some(cache.join("venv-stage/bin/moto_server")).filter(|path| path.is_file())
}

/// What Slack was asked, and what it shall fail.
#[derive(Default)]
pub(crate) struct Slack {
    pub(crate) calls: Mutex<Vec<(String, Value)>>,
    pub(crate) failing: Mutex<Option<&'static str>>,
    /// What `users.info` says of a person besides or otherwise.
    pub(crate) differing: Mutex<HashMap<&'static str, Value>>,
}

impl Slack {
    pub(crate) fn of(&self, method: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(m, _)| m == method)
            .map(|(_, body)| body.clone())
            .collect()
    }

    /// What the message of this timestamp shows now.
    pub(crate) fn shows(&self, ts: &str) -> String {
        let updates = self.of("chat.update");
        let last = updates.iter().rfind(|u| u["ts"] == ts);
        last.map(|u| u["blocks"].to_string()).unwrap_or_default()
    }
}

async fn slack_answers(
    State(slack): State<Arc<Slack>>,
    UrlPath(method): UrlPath<String>,
    body: String,
) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| {
        let fields: Vec<(String, String)> = serde_urlencoded::from_str(&body).unwrap();
        fields
            .into_iter()
            .map(|(k, v)| (k, Value::String(v)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    });
    if *slack.failing.lock().unwrap() == Some(method.as_str()) {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    let ts = {
        let mut calls = slack.calls.lock().unwrap();
        calls.push((method.clone(), body.clone()));
        format!("1700000000.{:06}", calls.len())
    };
    Json(match method.as_str() {
        "users.info" => {
            let id = body["user"].as_str().unwrap();
            let name = id.trim_start_matches("U0").to_lowercase();
            let mut user = json!({"id": id, "team_id": TEAM, "deleted": false, "is_bot": false,
                "is_restricted": false, "is_ultra_restricted": false, "is_email_confirmed": true,
                "profile": {"email": format!("{name}@example.com")}});
            if let Some(Value::Object(differing)) = slack.differing.lock().unwrap().get(id) {
                user.as_object_mut().unwrap().extend(differing.clone());
            }
            json!({"ok": true, "user": user})
        }
        "conversations.open" => json!({"ok": true, "channel": {"id": "D1"}}),
        "chat.postMessage" => json!({"ok": true, "ts": ts, "channel": body["channel"]}),
        _ => json!({"ok": true}),
    })
    .into_response()
}

pub(crate) struct Stage {
    pub(crate) _moto: Moto,
    pub(crate) slack: Arc<Slack>,
    pub(crate) service: Arc<Service>,
    pub(crate) settings: aws_config::SdkConfig,
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) bastions: SocketAddr,
    pub(crate) slack_endpoint: SocketAddr,
    seconds: Arc<AtomicI64>,
    /// So many launches are refused for want of capacity.
    pub(crate) refusing: Arc<AtomicI64>,
    /// So many calls of KMS fail on its side.
    pub(crate) silent_kms: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

/// A configuration whose files exist.
pub(crate) fn write_config(folder: &std::path::Path, slack_url: &str, subnet: &str) -> String {
    keys::generate(folder).unwrap();
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    file("slack-bot-token", "xoxb-test");
    file("slack-signing-secret", SIGNING_SECRET);
    file("orders-ticket.key", &"5a".repeat(32));
    let folder = folder.display();
    include_str!("../../../systemd/control.example.toml")
        .replace("/etc/powerpole/keys", &folder.to_string())
        .replace("/etc/powerpole", &folder.to_string())
        .replace("http://10.77.0.1:8090/api/", slack_url)
        .replace("subnet-0123456789abcdef0", subnet)
        .replace(
            "10.77.0.1:8080\"\nslack = \"10.77.0.1:8081",
            "127.0.0.1:0\"\nslack = \"127.0.0.1:0",
        )
}

impl Stage {
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|text| text).await
    }

    /// Starts on a configuration that was changed.
    pub(crate) async fn start_with(change: impl FnOnce(String) -> String) -> Option<Self> {
        let moto = moto().await?;
        // One for all tests of this process; each looks for its own request.
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::WARN)
            .with_writer(|| Logs)
            .try_init();
        let refusing = Arc::new(AtomicI64::new(0));
        let silent_kms = Arc::new(AtomicI64::new(0));
        let proxy = axum::Router::new().fallback(pass_on).with_state(MotoProxy {
            moto: moto.url.clone(),
            refusing: Arc::clone(&refusing),
            silent_kms: Arc::clone(&silent_kms),
            launched: Arc::default(),
        });
        let settings = aws_settings(&format!("http://{}", serve(proxy).await)).await;
        make_table(&settings).await;
        make_bucket(&settings).await;
        make_profile(&moto.url).await;
        let ec2 = aws_sdk_ec2::Client::new(&settings);
        let subnet = ec2.describe_subnets().send().await.unwrap().subnets()[0]
            .subnet_id()
            .unwrap()
            .to_owned();
        let groups = ec2.describe_security_groups().send().await.unwrap();
        let group = groups.security_groups()[0].group_id().unwrap().to_owned();
        let image = ec2.describe_images().send().await.unwrap().images()[0]
            .image_id()
            .unwrap()
            .to_owned();
        aws_sdk_ssm::Client::new(&settings)
            .put_parameter()
            .name("/powerpole/image")
            .value(image)
            .r#type(aws_sdk_ssm::types::ParameterType::String)
            .send()
            .await
            .unwrap();

        let slack = Arc::new(Slack::default());
        let routes = axum::Router::new()
            .route("/api/{method}", axum::routing::post(slack_answers))
            .with_state(Arc::clone(&slack));
        let slack_url = format!("http://{}/api/", serve(routes).await);

        let folder = tempfile::tempdir().unwrap();
        let text = write_config(folder.path(), &slack_url, &subnet)
            .replace("sg-0123456789abcdef0", &group);
        let config = Config::parse(&change(text)).unwrap();
        let seconds = Arc::new(AtomicI64::new(1_795_435_200));
        let service = service(&config, &settings, &seconds);
        let bastions = serve(bastion_api::routes(Arc::clone(&service))).await;
        let slack_endpoint = serve(slack_api::routes(Arc::clone(&service))).await;
        Some(Self {
            _moto: moto,
            slack,
            service,
            settings,
            ec2,
            bastions,
            slack_endpoint,
            seconds,
            refusing,
            silent_kms,
            _folder: folder,
        })
    }

    /// A second control on the same ledger, cloud and Slack.
    pub(crate) fn replica(&self) -> Arc<Service> {
        service(&self.service.config, &self.settings, &self.seconds)
    }

    pub(crate) fn wait(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.service.clock.now()
    }

    pub(crate) async fn tick(&self) {
        execute::tick(&self.service).await;
    }

    pub(crate) async fn item(&self, request: &RequestId) -> Item {
        self.service.ledger.read(request).await.unwrap().unwrap()
    }

    pub(crate) async fn slack_says(&self, path: &str, body: String) -> Value {
        let (status, text) = self.slack_answers(path, body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Status and body for what Slack signed.
    pub(crate) async fn slack_answers(&self, path: &str, body: String) -> (u16, String) {
        let at = self.now().as_second().to_string();
        let signature = sign(&at, &body);
        post(
            self.slack_endpoint,
            path,
            &[
                ("x-slack-request-timestamp", &at),
                ("x-slack-signature", &signature),
                ("content-type", "application/x-www-form-urlencoded"),
            ],
            body,
        )
        .await
    }

    pub(crate) async fn interact(&self, payload: Value) -> Value {
        self.slack_says(
            "/slack/interactions",
            serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap(),
        )
        .await
    }

    pub(crate) async fn click(&self, user: &str, action: &str, request: &RequestId) -> Value {
        self.interact(json!({"type": "block_actions", "user": {"id": user}, "team": {"id": TEAM}, "trigger_id": "t1", "channel": {"id": "C0APPROVALS"},
            "actions": [{"action_id": action, "value": request.as_str()}]})).await
    }

    /// Opens the modal as this user and submits it.
    pub(crate) async fn ask(&self, user: &str) -> RequestId {
        let answer = self
            .slack_says(
                "/slack/commands",
                format!("command=%2Fpowerpole&user_id={user}&team_id={TEAM}&trigger_id=t0"),
            )
            .await;
        assert_eq!(answer, Value::Null);
        let view = self.slack.of("views.open").last().unwrap()["view"].clone();
        let chosen =
            |value: &str| json!({"type": "static_select", "selected_option": {"value": value}});
        let request = view["private_metadata"].as_str().unwrap().to_owned();
        let answer = self.interact(json!({"type": "view_submission", "user": {"id": user}, "team": {"id": TEAM},
            "view": {"callback_id": view["callback_id"], "private_metadata": request, "state": {"values": {
                "cluster": {"cluster": chosen("orders-prod")}, "level": {"level": chosen("WRITE")},
                "schemas": {"schemas": {"selected_options": [{"value": "orders-prod/orders"}]}},
                "duration": {"duration": chosen("900")}, "start": {"start": {"selected_date_time": null}},
                "reason": {"reason": {"value": "repair order 7"}}}}}})).await;
        assert_eq!(answer["response_action"], "clear", "{answer}");
        RequestId::parse(&request).unwrap()
    }

    /// Asks, approves and launches.
    pub(crate) async fn launched(&self) -> (RequestId, Bastion) {
        let request = self.ask("U0ALICE").await;
        self.tick().await;
        self.click("U0CAROL", "approve", &request).await;
        self.tick().await;
        let bastion = self.bastion(&request).await;
        (request, bastion)
    }

    /// The bastion as it would boot: from its user data and its handoff alone.
    pub(crate) async fn bastion(&self, request: &RequestId) -> Bastion {
        use base64::Engine as _;
        let item = self.item(request).await;
        let instance = item.instance.clone().expect("launched");
        let described = self
            .ec2
            .describe_instance_attribute()
            .instance_id(instance.as_str())
            .attribute(aws_sdk_ec2::types::InstanceAttributeName::UserData)
            .send()
            .await
            .unwrap();
        let text = described.user_data().and_then(|d| d.value()).unwrap();
        let text = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap();
        let boot = BootDocument::parse(std::str::from_utf8(&text).unwrap()).unwrap();
        let secrets = aws_sdk_secretsmanager::Client::new(&self.settings);
        let value = secrets
            .get_secret_value()
            .secret_id(&boot.handoff)
            .send()
            .await
            .unwrap();
        let text = Secret::new(value.secret_string().unwrap().to_owned());
        let handoff = Handoff::parse(&text, request, boot.attempt, &instance).unwrap();
        Bastion {
            boot,
            handoff,
            instance,
            key: SigningKey::from_bytes(&[7; 32]),
            api: self.bastions,
        }
    }

    pub(crate) async fn instances(&self) -> Vec<String> {
        let all = self.ec2.describe_instances().send().await.unwrap();
        all.reservations()
            .iter()
            .flat_map(|r| r.instances())
            .map(|i| i.state().unwrap().name().unwrap().as_str().to_owned())
            .collect()
    }

    /// The private address that EC2 gave this instance.
    pub(crate) async fn address(&self, instance: &InstanceId) -> std::net::Ipv4Addr {
        let described = self.ec2.describe_instances();
        let described = described.instance_ids(instance.as_str()).send().await;
        let described = described.unwrap();
        let instance = &described.reservations()[0].instances()[0];
        instance.private_ip_address().unwrap().parse().unwrap()
    }

    pub(crate) async fn secrets(&self) -> usize {
        aws_sdk_secretsmanager::Client::new(&self.settings)
            .list_secrets()
            .send()
            .await
            .unwrap()
            .secret_list()
            .len()
    }
}

pub(crate) struct Bastion {
    pub(crate) boot: BootDocument,
    pub(crate) handoff: Handoff,
    pub(crate) instance: InstanceId,
    pub(crate) key: SigningKey,
    pub(crate) api: SocketAddr,
}

impl Bastion {
    pub(crate) fn hello_body(&self) -> Value {
        json!({"request": self.boot.request, "attempt": self.boot.attempt, "instance": self.instance,
            "boot_token": self.boot.boot_token.expose().expose(), "handoff_token": self.handoff.token.expose().expose(),
            "bastion_key": key_text(&self.key.verifying_key()), "agent": "0.1.0", "boot": "b"})
    }

    pub(crate) fn failed_body(&self, step: &str, code: &str) -> Value {
        json!({"request": self.boot.request, "attempt": self.boot.attempt, "instance": self.instance,
            "boot_token": self.boot.boot_token.expose().expose(), "step": step, "code": code,
            "message": "it went wrong", "steps": []})
    }

    /// Posts clear JSON; gives status and, when signed by control, its answer.
    pub(crate) async fn clear(&self, path: &str, body: &Value) -> (u16, Option<Answer>) {
        self.exchange(path, body.to_string(), None).await
    }

    pub(crate) async fn signed<M: Message>(
        &self,
        path: &str,
        message: &M,
    ) -> (u16, Option<Answer>) {
        let envelope = Envelope::sign(message, &self.key).unwrap();
        self.exchange(
            path,
            serde_json::to_string(&envelope).unwrap(),
            Some(envelope.digest()),
        )
        .await
    }

    async fn exchange(
        &self,
        path: &str,
        body: String,
        digest: Option<String>,
    ) -> (u16, Option<Answer>) {
        let digest = digest.unwrap_or_else(|| body_digest(&body));
        let (status, text) = post(
            self.api,
            path,
            &[("content-type", "application/json")],
            body,
        )
        .await;
        let key = powerpole_protocol::envelope::parse_key(&self.boot.control.signing_key).unwrap();
        let answer = (status == 200).then(|| {
            serde_json::from_str::<Envelope>(&text)
                .unwrap()
                .open::<Answer>(&key)
                .unwrap()
        });
        if let Some(answer) = &answer {
            assert_eq!(answer.to, digest);
        }
        (status, answer)
    }

    pub(crate) fn ready(&self) -> Ready {
        let password = Secret::new(PASSWORD.to_owned());
        let request = &self.boot.request;
        Ready {
            request: request.clone(),
            attempt: self.boot.attempt,
            instance: self.instance.clone(),
            account: format!("'{}'@'10.77.64.5'", self.handoff.grant.account),
            mysql_line: "mysql -h 127.0.0.1 -P 3306 -u alice -p --ssl".into(),
            password: SealedSecret::seal(
                &password,
                &self.boot.control.sealing_key,
                request,
                self.boot.attempt,
            )
            .unwrap(),
            genesis_head: "ab".repeat(32),
            anchor_prefix: format!("{ROLE_ID}:{}/{request}/", self.instance),
            steps: vec![],
        }
    }

    pub(crate) fn heartbeat(&self, count: u64) -> Heartbeat {
        Heartbeat {
            request: self.boot.request.clone(),
            attempt: self.boot.attempt,
            instance: self.instance.clone(),
            count,
            head: ChainHead {
                seq: count * 10,
                hash: "cd".repeat(32),
            },
            lag_records: 0,
            lag_ms: 0,
            advisories: 0,
            sessions: 1,
            statements: 3,
        }
    }
}

fn service(
    config: &Config,
    settings: &aws_config::SdkConfig,
    seconds: &Arc<AtomicI64>,
) -> Arc<Service> {
    let keys = Keys::load(config)
        .map_err(|faults| format!("{faults:?}"))
        .unwrap();
    let seconds = Arc::clone(seconds);
    let (nudges, _) = tokio::sync::mpsc::channel(1);
    Arc::new(Service {
        ledger: Arc::new(DynamoDb::new(settings, &config.ledger_table)) as Arc<dyn Ledger>,
        cloud: Arc::new(Aws::new(settings)),
        chat: Arc::new(SlackApi::new(&config.slack.api_url, &keys.slack_token, TEAM).unwrap()),
        rolls: Arc::new(RollBucket::new(settings, &config.evidence.anchor_bucket)),
        roll_memory: RollMemory::default(),
        clock: Clock::of(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap()),
        tasks: TaskTracker::new(),
        nudges,
        config: config.clone(),
        keys,
    })
}

pub(crate) async fn aws_settings(url: &str) -> aws_config::SdkConfig {
    let credentials = aws_sdk_dynamodb::config::Credentials::new(
        "AKIASTAGECONTROL0000",
        "any",
        None,
        None,
        "test",
    );
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .load()
        .await
}

pub(crate) async fn make_table(settings: &aws_config::SdkConfig) {
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
            .unwrap()
    };
    let index = |name: &str| {
        GlobalSecondaryIndex::builder()
            .index_name(name)
            .key_schema(key(name, KeyType::Hash))
            .key_schema(key("request", KeyType::Range))
            .projection(
                Projection::builder()
                    .projection_type(ProjectionType::All)
                    .build(),
            )
            .build()
            .unwrap()
    };
    aws_sdk_dynamodb::Client::new(settings)
        .create_table()
        .table_name("powerpole-ledger")
        .attribute_definitions(attribute("request"))
        .attribute_definitions(attribute("open"))
        .attribute_definitions(attribute("unrolled"))
        .key_schema(key("request", KeyType::Hash))
        .global_secondary_indexes(index("open"))
        .global_secondary_indexes(index("unrolled"))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
}

async fn make_bucket(settings: &aws_config::SdkConfig) {
    bucket_client(settings)
        .create_bucket()
        .bucket("powerpole-anchors")
        .object_lock_enabled_for_bucket(true)
        .send()
        .await
        .unwrap();
}

pub(crate) fn bucket_client(settings: &aws_config::SdkConfig) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(settings)
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// What moto lacks.
#[derive(Clone)]
struct MotoProxy {
    moto: String,
    refusing: Arc<AtomicI64>,
    /// So many signatures are refused.
    silent_kms: Arc<AtomicI64>,
    /// Instances by the client token that launched them.
    launched: Arc<Mutex<HashMap<String, String>>>,
}

/// AWS as control sees it: moto, but for launches that find no capacity, and with a filter by client token.
async fn pass_on(State(proxy): State<MotoProxy>, request: axum::extract::Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let form: Vec<(String, String)> = serde_urlencoded::from_bytes(&body).unwrap_or_default();
    let value = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let launch = value("Action").as_deref() == Some("RunInstances");
    if value("Filter.1.Name").as_deref() == Some("client-token") {
        let token = value("Filter.1.Value.1").unwrap();
        let launched = proxy.launched.lock().unwrap().get(&token).cloned();
        let id = launched.unwrap_or_else(|| "none".to_owned());
        let asked = [("Action", "DescribeInstances"), ("Version", "2016-11-15")];
        let by_id = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", &id)];
        let text = serde_urlencoded::to_string([asked, by_id].concat()).unwrap();
        parts.headers.remove("content-length");
        body = text.into();
    }
    if launch && proxy.refusing.fetch_sub(1, Ordering::SeqCst) > 0 {
        let text = "<Response><Errors><Error><Code>InsufficientInstanceCapacity</Code><Message>none left</Message></Error></Errors><RequestID>x</RequestID></Response>";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let mac = parts.headers.get("x-amz-target");
    let mac = mac.is_some_and(|target| target == "TrentService.GenerateMac");
    if mac && proxy.silent_kms.fetch_sub(1, Ordering::SeqCst) > 0 {
        let text = r#"{"__type": "KMSInternalException", "message": "try again"}"#;
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http();
    let mut onward = hyper::Request::builder()
        .method(parts.method)
        .uri(format!("{}{}", proxy.moto, parts.uri));
    for (name, value) in &parts.headers {
        onward = onward.header(name, value);
    }
    let onward = onward.body(http_body_util::Full::new(body)).unwrap();
    let response = client.request(onward).await.unwrap();
    if !launch {
        return response.map(axum::body::Body::new);
    }
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(axum::body::Body::new(body), 1 << 20)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let id = text
        .split_once("<instanceId>")
        .and_then(|(_, rest)| rest.split_once("</instanceId>"));
    if let (Some((id, _)), Some(token)) = (id, value("ClientToken")) {
        let mut launched = proxy.launched.lock().unwrap();
        launched.entry(token).or_insert_with(|| id.to_owned());
    }
    Response::from_parts(head, axum::body::Body::from(body))
}

// One call of IAM is not worth its SDK; moto reads the service from the credential's scope.
async fn make_profile(url: &str) {
    let scope = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
    let headers = [
        ("authorization", scope),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body =
        "Action=CreateInstanceProfile&InstanceProfileName=PowerPoleBastion&Version=2010-05-08";
    let address = url.trim_start_matches("http://").parse().unwrap();
    assert_eq!(post(address, "/", &headers, body.to_owned()).await.0, 200);
}

async fn serve(routes: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

pub(crate) async fn post(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, String) {
    use http_body_util::BodyExt as _;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http();
    let mut request = hyper::Request::post(format!("http://{to}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client
        .request(
            request
                .body(http_body_util::Full::new(bytes::Bytes::from(body)))
                .unwrap(),
        )
        .await
        .unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn sign(at: &str, body: &str) -> String {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SIGNING_SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{at}:{body}").as_bytes());
    format!(
        "v0={}",
        data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
    )
}
