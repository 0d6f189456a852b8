//! One control on one moto and one Slack, and a bastion's side of the conversation.

mod bastion;
mod cloud;
mod http;
mod logs;
mod slack;

pub(crate) use bastion::Bastion;
pub(crate) use cloud::bucket_client;
pub(crate) use http::post;
pub(crate) use logs::{alarms, alarms_with};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::{Moto, MotoProxy, aws_settings, make_bucket, make_profile, make_table, moto, pass_on};
use ed25519_dalek::SigningKey;
use http::serve;
use jiff::Timestamp;
use logs::Logs;
use powerpole_control::aws::cloud::Aws;
use powerpole_control::aws::rolls::RollBucket;
use powerpole_control::clock::Clock;
use powerpole_control::config::Config;
use powerpole_control::furthest::Furthest;
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
use powerpole_protocol::handoff::Handoff;
use powerpole_protocol::id::{InstanceId, RequestId};
use powerpole_protocol::secret::Secret;
use serde_json::{Value, json};
use slack::{SIGNING_SECRET, Slack, sign, slack_answers};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::task::TaskTracker;

/// The workspace of the shipped example.
/// Images that moto has; listing all of its 1,300 takes it seconds. The first is the bastions'.
pub(crate) const IMAGES: [&str; 2] = ["ami-03cf127a", "ami-12c6146b"];
pub(crate) const TEAM: &str = "T0POWERPOLE";
/// The bastions' role of the shipped example.
pub(crate) const ROLE_ID: &str = "AROASTAGEBASTION00000";
pub(crate) const PASSWORD: &str = "pw-<&>-never-stored";

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
    /// Instances that control may not end.
    pub(crate) protected: Arc<Mutex<HashSet<String>>>,
    /// 1: the next launch waits, and this becomes 2 until it is set to 0.
    pub(crate) holding: Arc<AtomicI64>,
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
        let moto = moto()?;
        // One for all tests of this process; each looks for its own request.
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::WARN)
            .with_writer(|| Logs)
            .try_init();
        let refusing = Arc::new(AtomicI64::new(0));
        let silent_kms = Arc::new(AtomicI64::new(0));
        let holding = Arc::new(AtomicI64::new(0));
        let protected = Arc::default();
        let proxy = axum::Router::new().fallback(pass_on).with_state(MotoProxy {
            moto: moto.url.clone(),
            refusing: Arc::clone(&refusing),
            silent_kms: Arc::clone(&silent_kms),
            holding: Arc::clone(&holding),
            protected: Arc::clone(&protected),
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
        let image = IMAGES[0];
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
            holding,
            protected,
            _folder: folder,
        })
    }

    /// A second control on the same ledger, cloud and Slack.
    pub(crate) fn replica(&self) -> Arc<Service> {
        service(&self.service.config, &self.settings, &self.seconds)
    }

    /// As [`Stage::replica`], with other settings.
    pub(crate) fn replica_with(&self, change: impl FnOnce(&mut Config)) -> Arc<Service> {
        let mut config = self.service.config.clone();
        change(&mut config);
        service(&config, &self.settings, &self.seconds)
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

    /// What whoever may write the ledger does to an item: one UpdateItem without any condition.
    pub(crate) async fn edit(&self, key: &str, set: &[(&str, AttributeValue)], remove: &[&str]) {
        let mut update = aws_sdk_dynamodb::Client::new(&self.settings)
            .update_item()
            .table_name("powerpole-ledger")
            .key("request", AttributeValue::S(key.to_owned()));
        let mut parts = Vec::new();
        for (n, (name, value)) in set.iter().enumerate() {
            parts.push(format!(
                "{} #s{n} = :s{n}",
                if n == 0 { "SET" } else { "," }
            ));
            update = update
                .expression_attribute_names(format!("#s{n}"), *name)
                .expression_attribute_values(format!(":s{n}"), value.clone());
        }
        for (n, name) in remove.iter().enumerate() {
            parts.push(format!("{} #r{n}", if n == 0 { "REMOVE" } else { "," }));
            update = update.expression_attribute_names(format!("#r{n}"), *name);
        }
        let sent = update.update_expression(parts.join(" ")).send().await;
        sent.unwrap();
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
        self.ask_for(user, None).await
    }

    /// As [`Stage::ask`], for a window that starts at this time.
    pub(crate) async fn ask_for(&self, user: &str, start: Option<Timestamp>) -> RequestId {
        let start = start.map(Timestamp::as_second);
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
                "duration": {"duration": chosen("900")}, "start": {"start": {"selected_date_time": start}},
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
        furthest: Furthest::default(),
        clock: Clock::of(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap()),
        tasks: TaskTracker::new(),
        nudges,
        config: config.clone(),
        keys,
    })
}
