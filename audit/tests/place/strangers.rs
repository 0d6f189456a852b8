//! Other bastions that write of the same request.

use crate::account::*;
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_chain::{
    Anchor, AnchorKind, Content, EpochKey, Parsed, SealReason, Sealer, SignedGenesis, parse_line,
};
use serde_json::Value;
use std::fs;

impl Account {
    /// An instance of the role writes a genesis of the request.
    async fn put_genesis(&self, instance: &str, request: &str) -> String {
        let body = anchor(AnchorKind::Genesis, instance, request, 0).to_json();
        let key = format!("{}genesis.json", folder(instance, request));
        self.put(&self.bucket, &key, &body).await;
        key
    }
}

/// Root on any bastion of the role can write any request's name into its own folder.
#[tokio::test]
async fn what_another_bastion_writes_of_the_request_changes_no_verdict() {
    let Some(account) = Account::new("planted").await else {
        return;
    };
    let others = ["i-0bastion", "i-0flood", "i-0garbage", "i-0later"];
    let [bastion, flood, garbage, later] = others;
    account.put_genesis(bastion, "req-own").await;
    account.put_genesis(flood, "req-own2").await;
    account.next_second().await;
    // Before the victim's own bastion has begun.
    account.put_genesis(bastion, REQUEST).await;
    account.put_genesis(flood, REQUEST).await;
    account.put_all(names_of(flood, 1010)).await;
    for name in ["genesis.json", "genesis.jsonx"] {
        let key = format!("{}{name}", folder(garbage, REQUEST));
        account.put(&account.bucket, &key, "{}").await;
    }
    let near = format!("{}genesis.jsonx", folder("i-0near", REQUEST));
    account.put(&account.bucket, &near, "{}").await;
    account.next_second().await;
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    account.next_second().await;
    account.put_genesis(later, REQUEST).await;

    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    assert_eq!(report["search"]["others"], serde_json::json!(others));
    assert_eq!(report["search"]["unexplained"], serde_json::json!([]));
    for told in [
        "i-0bastion (and was another request's bastion)",
        "i-0later (after",
    ] {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(told), "{told} in {text}");
    }
    let (code, report, text) = account.verify(&["--search", "--strict"]);
    assert_eq!((code, &report["verdict"]), (1, &"VALID".into()), "{text}");
    assert_eq!(report["strict"][0]["what"], "other-bastions");
    assert_eq!(report["strict"][0]["count"], 4);
}

/// A genesis of so many other requests in the instance's folder; more than 1,000 fill a page of a list.
fn names_of(instance: &str, count: u32) -> Vec<String> {
    let names = (0..count).map(|n| folder(instance, &format!("req-{n}")));
    names
        .map(|folder| format!("{folder}genesis.json"))
        .collect()
}

/// Root on the true bastion, whether the ledger names it or one that somebody launched by hand.
#[tokio::test]
async fn what_root_writes_of_other_requests_is_no_word_on_what_the_bastion_began_before() {
    let Some(mut account) = Account::new("names").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    account.next_second().await;
    account.put_all(names_of(INSTANCE, 20)).await;
    let own = format!("{}genesis.json", folder(INSTANCE, REQUEST));
    for _ in 0..3 {
        account.put(&account.bucket, &own, "x").await;
    }
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    account.put_rogue().await;
    account.keep_item().await;
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!((code, rules(&report)), (1, vec!["other-genesis"]), "{text}");
    assert_eq!(report["search"]["unexplained"][0], INSTANCE);
}

/// Somebody who edits the ledger and holds another request's bastion of the real role.
#[tokio::test]
async fn a_bastion_that_was_another_request_s_is_found_whatever_the_ledger_says() {
    let Some(mut account) = Account::new("other").await else {
        return;
    };
    account.put_genesis(ROGUE, "req-own").await;
    account.next_second().await;
    account.put_rogue().await;
    account.keep_item().await;
    let (code, report, text) = account.verify(&[]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    let (code, report, text) = account.verify(&["--search"]);
    assert_eq!((code, rules(&report)), (1, vec!["other-request"]), "{text}");
    assert!(text.contains("req-own"), "{text}");
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
}

#[tokio::test]
async fn a_bastion_that_nothing_explains_and_that_began_first_is_a_contradiction() {
    let Some(account) = Account::new("unexplained").await else {
        return;
    };
    let key = account.put_genesis("i-0ffffffffffffffff", REQUEST).await;
    // What is hidden behind a marker is found, too.
    let delete = account.s3().delete_object().bucket(&account.bucket);
    delete.key(&key).send().await.unwrap();
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
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

impl Account {
    /// The made-up chain with its anchors, and a ledger that names it.
    async fn put_rogue(&mut self) {
        let (lines, anchors) = made_up();
        let last = &anchors[1];
        let stream = format!("{REQUEST}/{ROGUE}");
        self.put_stream(GROUP, &stream, lines).await;
        for anchor in &anchors {
            let key = format!("{ROLE}:{ROGUE}/{REQUEST}/{}", anchor.object_name());
            self.put(&self.bucket, &key, &anchor.to_json()).await;
        }
        let hex = data_encoding::HEXLOWER.encode(&last.head);
        let genesis = data_encoding::HEXLOWER.encode(&anchors[0].head);
        self.set_text("genesis_head", &genesis);
        for (seq, head) in [("latest_seq", "latest_head"), ("final_seq", "final_head")] {
            self.set(seq, AttributeValue::N(last.seq.to_string()));
            self.set_text(head, &hex);
        }
        self.set_text("log_stream", &stream);
        self.set_text("anchor_prefix", &folder(ROGUE, REQUEST));
        self.set_text("instance", ROGUE);
    }
}

/// Somebody who edits the ledger and holds a bastion of the real role: what the documents say is left open, and what
/// closes it.
#[tokio::test]
async fn a_made_up_chain_of_another_bastion_is_contradicted_by_the_roll_and_by_a_search() {
    let Some(mut account) = Account::new("rogue").await else {
        return;
    };
    account.put_anchors(&account.bucket, ROLE).await;
    account.put_rogue().await;
    account.set_text("anchor_prefix", &folder(INSTANCE, REQUEST));
    account.set_text("instance", INSTANCE);
    // A stream alone, or a prefix alone, does not get there.
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
