//! A ledger, a bucket and a log group of a test's own at moto, with the vector's evidence.

use crate::support;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use powerpole_chain::{Anchor, AnchorKind, Ended, FinalHead, Outcome, Roll};
use serde_json::Value;

pub(crate) const REQUEST: &str = "req-01jd8z3v5k9q4m2n7p6r8s1t01";
pub(crate) const INSTANCE: &str = "i-0a1b2c3d4e5f60701";
pub(crate) const ROLE: &str = "AROAEXAMPLE";
/// The vector's genesis names it.
pub(crate) const GROUP: &str = "/powerpole/test/evidence";

pub(crate) struct Account {
    pub(crate) endpoint: String,
    pub(crate) settings: SdkConfig,
    s3: aws_sdk_s3::Client,
    pub(crate) table: String,
    pub(crate) bucket: String,
    pub(crate) item: HashMap<String, AttributeValue>,
}

pub(crate) fn vector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid")
}

impl Account {
    /// A ledger and a bucket of this test's own, which hold the vector's item and nothing.
    pub(crate) async fn new(test: &str) -> Option<Account> {
        let Ok(endpoint) = std::env::var("POWERPOLE_TEST_AWS") else {
            eprintln!("SKIPPED {test}: POWERPOLE_TEST_AWS is not set");
            return None;
        };
        let credentials =
            aws_sdk_s3::config::Credentials::new("AKIATRIAL", "secret", None, None, "trial");
        let settings = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(&endpoint)
            .load()
            .await;
        let unique = format!("{}-{}", test.replace('_', "-"), std::process::id());
        let own = aws_sdk_s3::config::Builder::from(&settings).force_path_style(true);
        let mut account = Account {
            endpoint,
            s3: aws_sdk_s3::Client::from_conf(own.build()),
            settings,
            table: format!("ledger-{unique}"),
            bucket: format!("anchors-{unique}"),
            item: HashMap::new(),
        };
        account.make_table().await;
        account.make_bucket(&account.bucket).await;
        let text = fs::read(vector().join("LEDGER.json")).unwrap();
        let typed: Value = serde_json::from_slice(&text).unwrap();
        for (name, value) in typed.as_object().unwrap() {
            account.item.insert(name.clone(), attribute(value));
        }
        account.set("number", AttributeValue::N("1".to_owned()));
        account.set_text("state", "CLOSED");
        account.set_text("requested_at", "2025-11-24T15:50:00Z");
        account.set_text("closed_at", "2025-11-24T16:10:00Z");
        let bucket = account.bucket.clone();
        account.set_text("anchor_bucket", &bucket);
        account.set_text("anchor_prefix", &format!("{ROLE}:{INSTANCE}/{REQUEST}/"));
        account.keep_item().await;
        Some(account)
    }

    pub(crate) fn set(&mut self, name: &str, value: AttributeValue) {
        self.item.insert(name.to_owned(), value);
    }

    pub(crate) fn set_text(&mut self, name: &str, value: &str) {
        self.set(name, AttributeValue::S(value.to_owned()));
    }

    pub(crate) async fn keep_item(&self) {
        let put = aws_sdk_dynamodb::Client::new(&self.settings).put_item();
        let put = put.table_name(&self.table);
        put.set_item(Some(self.item.clone())).send().await.unwrap();
    }

    pub(crate) async fn make_table(&self) {
        aws_sdk_dynamodb::Client::new(&self.settings)
            .create_table()
            .table_name(&self.table)
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name("request")
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .unwrap(),
            )
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name("request")
                    .key_type(KeyType::Hash)
                    .build()
                    .unwrap(),
            )
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .unwrap();
    }

    pub(crate) fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    pub(crate) async fn make_bucket(&self, bucket: &str) {
        let s3 = self.s3();
        s3.create_bucket().bucket(bucket).send().await.unwrap();
        let on = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = s3.put_bucket_versioning().bucket(bucket);
        put.versioning_configuration(on).send().await.unwrap();
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, body: &str) {
        let put = self.s3().put_object().bucket(bucket).key(key);
        put.body(body.to_owned().into_bytes().into())
            .send()
            .await
            .unwrap();
    }

    /// The vector's anchors, under this role's folder.
    pub(crate) async fn put_anchors(&self, bucket: &str, role: &str) {
        let text = fs::read_to_string(vector().join("ANCHORS.jsonl")).unwrap();
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            let key = object["key"].as_str().unwrap().replace(ROLE, role);
            self.put(bucket, &key, object["body"].as_str().unwrap())
                .await;
        }
    }

    /// Until what is written is of a later time than all before: S3's times are whole seconds.
    pub(crate) async fn next_second(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }

    /// An object under each of these keys, many at once.
    pub(crate) async fn put_all(&self, keys: Vec<String>) {
        let mut puts = tokio::task::JoinSet::new();
        for key in keys {
            let put = self.s3().put_object().bucket(&self.bucket).key(key);
            let put = put.body(b"x".to_vec().into());
            puts.spawn(async move { put.send().await.map(|_| ()).unwrap() });
            if puts.len() >= 32 {
                puts.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(put) = puts.join_next().await {
            put.unwrap();
        }
    }

    /// The vector's lines.
    pub(crate) async fn put_lines(&self, group: &str) {
        let text = fs::read_to_string(vector().join("LINES.jsonl")).unwrap();
        let messages = text.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["message"].as_str().unwrap().to_owned()
        });
        let stream = format!("{REQUEST}/{INSTANCE}");
        self.put_stream(group, &stream, messages.collect()).await;
    }

    /// Lines into a stream that is not there yet. The service does not take their own times, which are another year's.
    pub(crate) async fn put_stream(&self, group: &str, stream: &str, messages: Vec<String>) {
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _held = ONE_AT_A_TIME.lock().await;
        let logs = aws_sdk_cloudwatchlogs::Client::new(&self.settings);
        let _ = logs.create_log_group().log_group_name(group).send().await;
        let made = logs.create_log_stream().log_group_name(group);
        if made.log_stream_name(stream).send().await.is_err() {
            return;
        }
        let now = std::process::Command::new("date").arg("+%s").output();
        let now = String::from_utf8(now.unwrap().stdout).unwrap();
        let now: i64 = now.trim().parse::<i64>().unwrap() * 1000;
        let events = messages.into_iter().zip(now - 60_000..).map(|(text, ms)| {
            let event = aws_sdk_cloudwatchlogs::types::InputLogEvent::builder();
            event.timestamp(ms).message(text).build().unwrap()
        });
        let put = logs.put_log_events().log_group_name(group);
        let put = put.log_stream_name(stream);
        put.set_log_events(Some(events.collect()))
            .send()
            .await
            .unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(support::binary())
            .args(arguments)
            .env_remove("AWS_PROFILE")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "AKIATRIAL")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("POWERPOLE_LEDGER_TABLE", &self.table)
            .env("POWERPOLE_LOG_GROUP", GROUP)
            .env("POWERPOLE_ANCHOR_BUCKET", &self.bucket)
            .env("POWERPOLE_ROLE_ID", ROLE)
            .output()
            .unwrap()
    }

    /// Verifies from AWS: exit code, report and text.
    pub(crate) fn verify(&self, more: &[&str]) -> (i32, Value, String) {
        let mut arguments = vec!["verify", REQUEST];
        arguments.extend(more);
        let text = self.run(&arguments);
        let text = told(&text);
        arguments.push("--json");
        let output = self.run(&arguments);
        let report =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
        (output.status.code().unwrap(), report, text)
    }
}

pub(crate) fn told(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

pub(crate) fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" => AttributeValue::S(value.as_str().unwrap().to_owned()),
        "N" => AttributeValue::N(value.as_str().unwrap().to_owned()),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "L" => AttributeValue::L(value.as_array().unwrap().iter().map(attribute).collect()),
        other => panic!("{other}"),
    }
}

/// The folder in which an instance of the role writes of a request.
pub(crate) fn folder(instance: &str, request: &str) -> String {
    format!("{ROLE}:{instance}/{request}/")
}

/// An anchor of no chain.
pub(crate) fn anchor(kind: AnchorKind, instance: &str, request: &str, seq: u64) -> Anchor {
    Anchor {
        kind,
        request: request.to_owned(),
        stream: format!("{request}/{instance}"),
        instance: instance.to_owned(),
        seq,
        head: [5; 32],
        epoch: 0,
        t_us: 1,
    }
}

pub(crate) fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|f| f["rule"].as_str().unwrap()).collect()
}

pub(crate) fn head() -> [u8; 32] {
    let hex = "8f4df388140bee0b405a87ff8a2092c2f431bda9309ff390f1466f14af626e77";
    data_encoding::HEXLOWER
        .decode(hex.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

/// The roll of the day on which the vector's request was made and ended.
pub(crate) fn roll(head: [u8; 32]) -> Roll {
    Roll {
        number: 1,
        from_s: 1_763_942_400,
        until_s: 1_764_028_800,
        previous: [0; 32],
        first: 1,
        requested: vec![REQUEST.to_owned()],
        ended: vec![Ended {
            n: 1,
            request: REQUEST.to_owned(),
            outcome: Outcome::Closed,
            head: Some(FinalHead {
                seq: 21,
                head,
                sealed: true,
            }),
        }],
    }
}
