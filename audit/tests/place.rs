//! Who says where evidence lies: the shipped command against moto (`POWERPOLE_TEST_AWS`), with a ledger that somebody
//! edited, a bastion that nobody launched, and rolls that name another end.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

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
use powerpole_chain::{
    Anchor, AnchorKind, Content, Ended, EpochKey, FinalHead, Outcome, Parsed, Roll, SealReason,
    Sealer, SignedGenesis, parse_line,
};
use serde_json::Value;

const REQUEST: &str = "req-01jd8z3v5k9q4m2n7p6r8s1t01";
const INSTANCE: &str = "i-0a1b2c3d4e5f60701";
const ROLE: &str = "AROAEXAMPLE";
/// The vector's genesis names it.
const GROUP: &str = "/powerpole/test/evidence";

struct Account {
    endpoint: String,
    settings: SdkConfig,
    table: String,
    bucket: String,
    item: HashMap<String, AttributeValue>,
}

fn vector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid")
}

impl Account {
    /// A ledger and a bucket of this test's own, which hold the vector's item and nothing.
    async fn new(test: &str) -> Option<Account> {
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
        let mut account = Account {
            endpoint,
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

    fn set(&mut self, name: &str, value: AttributeValue) {
        self.item.insert(name.to_owned(), value);
    }

    fn set_text(&mut self, name: &str, value: &str) {
        self.set(name, AttributeValue::S(value.to_owned()));
    }

    async fn keep_item(&self) {
        let put = aws_sdk_dynamodb::Client::new(&self.settings).put_item();
        let put = put.table_name(&self.table);
        put.set_item(Some(self.item.clone())).send().await.unwrap();
    }

    async fn make_table(&self) {
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

    fn s3(&self) -> aws_sdk_s3::Client {
        let own = aws_sdk_s3::config::Builder::from(&self.settings);
        aws_sdk_s3::Client::from_conf(own.force_path_style(true).build())
    }

    async fn make_bucket(&self, bucket: &str) {
        let s3 = self.s3();
        s3.create_bucket().bucket(bucket).send().await.unwrap();
        let on = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = s3.put_bucket_versioning().bucket(bucket);
        put.versioning_configuration(on).send().await.unwrap();
    }

    async fn put(&self, bucket: &str, key: &str, body: &str) {
        let put = self.s3().put_object().bucket(bucket).key(key);
        put.body(body.to_owned().into_bytes().into())
            .send()
            .await
            .unwrap();
    }

    /// The vector's anchors, under this role's folder.
    async fn put_anchors(&self, bucket: &str, role: &str) {
        let text = fs::read_to_string(vector().join("ANCHORS.jsonl")).unwrap();
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            let key = object["key"].as_str().unwrap().replace(ROLE, role);
            self.put(bucket, &key, object["body"].as_str().unwrap())
                .await;
        }
    }

    /// The vector's lines.
    async fn put_lines(&self, group: &str) {
        let text = fs::read_to_string(vector().join("LINES.jsonl")).unwrap();
        let messages = text.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["message"].as_str().unwrap().to_owned()
        });
        let stream = format!("{REQUEST}/{INSTANCE}");
        self.put_stream(group, &stream, messages.collect()).await;
    }

    /// Lines into a stream that is not there yet. The service does not take their own times, which are another year's.
    async fn put_stream(&self, group: &str, stream: &str, messages: Vec<String>) {
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

    fn run(&self, arguments: &[&str]) -> Output {
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
    fn verify(&self, more: &[&str]) -> (i32, Value, String) {
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

fn told(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" => AttributeValue::S(value.as_str().unwrap().to_owned()),
        "N" => AttributeValue::N(value.as_str().unwrap().to_owned()),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "L" => AttributeValue::L(value.as_array().unwrap().iter().map(attribute).collect()),
        other => panic!("{other}"),
    }
}

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|f| f["rule"].as_str().unwrap()).collect()
}

fn head() -> [u8; 32] {
    let hex = "8f4df388140bee0b405a87ff8a2092c2f431bda9309ff390f1466f14af626e77";
    data_encoding::HEXLOWER
        .decode(hex.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

/// The roll of the day on which the vector's request was made and ended.
fn roll(head: [u8; 32]) -> Roll {
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

#[tokio::test]
async fn what_lies_where_the_auditor_says_is_verified_and_its_place_is_told() {
    let Some(account) = Account::new("own").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    let (code, report, text) = account.verify(&[]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    let place = &report["place"];
    assert_eq!(place["anchors"], format!("s3://{}", account.bucket));
    assert_eq!(
        place["prefixes"][0],
        format!("{ROLE}:{INSTANCE}/{REQUEST}/")
    );
    assert_eq!(place["log_stream"], format!("{REQUEST}/{INSTANCE}"));
    assert_eq!(
        place["by_you"],
        serde_json::json!(["bucket", "role_id", "log_group"])
    );
    assert_eq!(
        place["by_ledger"],
        serde_json::json!(["instance", "log_stream"])
    );
    for told in [
        &account.bucket,
        GROUP,
        "only the ledger says",
        "no roll was compared",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }

    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let output = account.run(&["export", REQUEST, "--out", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let output = account.run(&["verify", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

/// Somebody who can edit the ledger, and not the bucket, shows evidence of their own making.
#[tokio::test]
async fn whoever_edits_the_ledger_does_not_choose_what_is_verified() {
    let Some(mut account) = Account::new("edited").await else {
        return;
    };
    let (bucket, group) = (format!("{}-own", account.bucket), "/somebody/else");
    account.make_bucket(&bucket).await;
    account.put_lines(group).await;
    account.put_anchors(&bucket, "AROAINSIDER").await;
    account.set_text("anchor_bucket", &bucket);
    account.set_text("log_group", group);
    let prefix = format!("AROAINSIDER:{INSTANCE}/{REQUEST}/");
    account.set_text("anchor_prefix", &prefix);
    account.keep_item().await;
    let (code, report, text) = account.verify(&[]);
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"TAMPERED".into()),
        "{text}"
    );
    let rules = rules(&report);
    for rule in ["place-bucket", "place-log-group", "place-role-id"] {
        assert!(rules.contains(&rule), "{rule} in {rules:?}");
        assert!(text.contains(rule), "{rule} in {text}");
    }
    assert_eq!(report["anchors"]["given"], 0, "another's bucket was read");

    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let output = account.run(&["export", REQUEST, "--out", folder]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("place-bucket"), "{}", told(&output));
}

/// A bastion of the real role can write into its own folder of the bucket and into any stream of the log group.
#[tokio::test]
async fn another_bastions_record_of_the_request_is_found_by_a_search_that_is_bounded() {
    let Some(account) = Account::new("search").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    for n in 0..30 {
        let key = format!("{ROLE}:i-{n:017}/req-other{n}/genesis.json");
        account.put(&account.bucket, &key, "{}").await;
    }
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!(
        (code, &report["search"]["bastions"]),
        (0, &31.into()),
        "{text}"
    );
    let output = account.run(&["verify", REQUEST, "--search=30"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told(&output).contains("search-too-many"),
        "{}",
        told(&output)
    );

    let key = format!("{ROLE}:i-0ffffffffffffffff/{REQUEST}/genesis.json");
    account.put(&account.bucket, &key, "{}").await;
    // What is hidden behind a marker is found, too.
    let delete = account.s3().delete_object().bucket(&account.bucket);
    delete.key(&key).send().await.unwrap();
    assert_eq!(account.verify(&[]).0, 0, "nobody looked");
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"TAMPERED".into()),
        "{text}"
    );
    assert_eq!(rules(&report), ["other-genesis"]);
    assert!(text.contains("i-0ffffffffffffffff"), "{text}");
}

const ROGUE: &str = "i-0bad0bad0bad0bad0";

/// A chain of the request that a bastion of the real role made up: nothing was done, and it says so.
fn made_up() -> (Vec<String>, Vec<Anchor>) {
    let text = fs::read_to_string(vector().join("LINES.jsonl")).unwrap();
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let Ok(Parsed::Record(record)) = parse_line(event["message"].as_str().unwrap().as_bytes())
    else {
        panic!()
    };
    let Content::Full { payload, .. } = record.content else {
        panic!()
    };
    let mut genesis = SignedGenesis::decode(&payload).unwrap().genesis;
    genesis.instance = ROGUE.to_owned();
    genesis.log_stream = format!("{REQUEST}/{ROGUE}");
    let key = EpochKey::from_seed([9; 32]);
    let (sealer, first) = Sealer::begin(&genesis, key, [1; 16]).unwrap();
    let end = genesis.started_us + 1;
    let seal = sealer.seal(end, [2; 16], SealReason::Deadline).unwrap();
    let anchors = vec![
        first.anchor(AnchorKind::Genesis, &genesis),
        seal.anchor(AnchorKind::Seal, &genesis),
    ];
    (vec![first.text, seal.text], anchors)
}

/// Somebody who edits the ledger and holds a bastion of the real role: what the documents say is left open, and what
/// closes it.
#[tokio::test]
async fn a_made_up_chain_of_another_bastion_is_contradicted_by_the_roll_and_by_a_search() {
    let Some(mut account) = Account::new("rogue").await else {
        return;
    };
    account.put_anchors(&account.bucket, ROLE).await;
    let (lines, anchors) = made_up();
    let last = &anchors[1];
    let stream = format!("{REQUEST}/{ROGUE}");
    account.put_stream(GROUP, &stream, lines).await;
    for anchor in &anchors {
        let key = format!("{ROLE}:{ROGUE}/{REQUEST}/{}", anchor.object_name());
        account.put(&account.bucket, &key, &anchor.to_json()).await;
    }
    let hex = data_encoding::HEXLOWER.encode(&last.head);
    let genesis = data_encoding::HEXLOWER.encode(&anchors[0].head);
    account.set_text("genesis_head", &genesis);
    for (seq, head) in [("latest_seq", "latest_head"), ("final_seq", "final_head")] {
        account.set(seq, AttributeValue::N(last.seq.to_string()));
        account.set_text(head, &hex);
    }
    // A stream alone, or a prefix alone, does not get there.
    account.set_text("log_stream", &stream);
    account.keep_item().await;
    let (code, report, text) = account.verify(&[]);
    assert_eq!(code, 1, "{text}");
    assert!(rules(&report).contains(&"place-log-stream"), "{text}");
    account.set_text("anchor_prefix", &format!("{ROLE}:{ROGUE}/{REQUEST}/"));
    account.keep_item().await;
    let (code, report, text) = account.verify(&[]);
    assert_eq!(code, 1, "{text}");
    assert!(rules(&report).contains(&"place-prefix"), "{text}");
    account.set_text("instance", ROGUE);
    account.keep_item().await;

    let (_, report, text) = account.verify(&[]);
    assert_eq!(report["verdict"], "VALID", "{text}");
    assert!(
        text.contains("only the ledger says: instance i-0bad"),
        "{text}"
    );
    assert!(text.contains("no roll was compared"), "{text}");

    let own = roll(head());
    let key = format!("rolls/{}", own.object_name());
    account.put(&account.bucket, &key, &own.to_json()).await;
    let from = format!("s3://{}", account.bucket);
    let (code, report, text) = account.verify(&["--rolls", &from]);
    assert_eq!((code, rules(&report)), (1, vec!["roll-differs"]), "{text}");
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!((code, rules(&report)), (1, vec!["other-genesis"]), "{text}");
    assert_eq!(report["search"]["others"][0], INSTANCE);

    // With a try made up as well, the true bastion is told as an earlier one.
    account.set("attempt", AttributeValue::N("2".to_owned()));
    account.keep_item().await;
    let (_, report, text) = account.verify(&["--search"]);
    assert_eq!(
        rules(&report),
        ["ledger-differs"],
        "the genesis says 1: {text}"
    );
    assert!(text.contains(INSTANCE), "{text}");
}

#[tokio::test]
async fn a_valid_chain_with_another_end_than_the_rolls_name_is_a_contradiction() {
    let Some(account) = Account::new("rolled").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    let from = format!("s3://{}", account.bucket);
    let output = account.run(&["verify", REQUEST, "--rolls", &from]);
    assert_eq!(output.status.code(), Some(2), "no roll: {}", told(&output));

    let folder = tempfile::tempdir().unwrap();
    let file = |head| {
        let roll = roll(head);
        let path = folder.path().join("ROLLS.jsonl");
        let key = format!("rolls/{}", roll.object_name());
        let line = serde_json::json!({"key": key, "version_id": "1",
            "last_modified": "2025-11-25T00:15:00Z", "body": roll.to_json()});
        fs::write(&path, format!("{line}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (code, report, text) = account.verify(&["--rolls", &file([7; 32])]);
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"TAMPERED".into()),
        "{text}"
    );
    assert_eq!(rules(&report), ["roll-differs"]);
    let (code, report, text) = account.verify(&["--rolls", &file(head())]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    assert_eq!(report["rolls"]["outcome"], "CLOSED");
    assert!(
        text.contains("the rolls name it as no. 1, CLOSED"),
        "{text}"
    );

    // In the bucket it is a year old, and something else lies beside it.
    let own = roll(head());
    let key = format!("rolls/{}", own.object_name());
    account.put(&account.bucket, &key, &own.to_json()).await;
    account.put(&account.bucket, "rolls/zzz", "\u{7}").await;
    let (code, report, text) = account.verify(&["--rolls", &from]);
    assert_eq!(code, 0, "{text}");
    assert!(report["rolls"]["late_s"].as_u64().unwrap() > 2 * 86_400);
    assert!(text.contains("control has written no roll since"), "{text}");
    let output = account.run(&["rolls", "--from", &from, "--ledger", "dynamodb"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in [
        "LATE",
        "roll-late",
        "roll-foreign",
        "rolls/zzz",
        "a roll names every item",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// An item whose time lies far ahead ends control's roll before it: items 2 and 3 are in none.
#[tokio::test]
async fn items_that_the_rolls_stop_at_are_no_complete_row() {
    let Some(account) = Account::new("stopped").await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let own = roll(head());
    let file = folder.path().join("ROLLS.jsonl");
    let line = serde_json::json!({"key": format!("rolls/{}", own.object_name()), "version_id": "1",
        "last_modified": "2025-11-25T00:15:00Z", "body": own.to_json()});
    fs::write(&file, format!("{line}\n")).unwrap();
    let arguments = [
        "rolls",
        "--from",
        file.to_str().unwrap(),
        "--ledger",
        "dynamodb",
    ];
    let output = account.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));

    let mut other = Account::new("stopped2").await.unwrap();
    for (n, made) in [("2", "9000-01-01T00:00:00Z"), ("3", "2025-11-24T16:20:00Z")] {
        other.set_text("request", &format!("req-{n}"));
        other.set("number", AttributeValue::N(n.to_owned()));
        other.set_text("requested_at", made);
        other.keep_item().await;
    }
    let output = other.run(&arguments);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in [
        "CONTRADICTED",
        "(ledger-time)",
        "(roll-lacks)",
        "req-2",
        "req-3",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!text.contains("names every item"), "{text}");
}
