//! What root on the session's own bastion writes into its own folder of the bucket.

use crate::account::*;
use powerpole_chain::AnchorKind;
use serde_json::{Value, json};
use std::fs;

impl Account {
    fn own(&self, name: &str) -> String {
        format!("{}{name}", folder(INSTANCE, REQUEST))
    }

    async fn put_own(&self, name: &str, body: &str) {
        self.put(&self.bucket, &self.own(name), body).await;
    }

    /// Exports, and verifies the export.
    fn verify_export(&self, code: i32, more: &[&str]) -> (i32, Value, String) {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().to_str().unwrap();
        let output = self.run(&["export", REQUEST, "--out", folder]);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let export = told(&output);
        let output = self.run(&[&["verify", folder, "--json"], more].concat());
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report, export)
    }
}

fn head_name(seq: u64) -> String {
    format!("head-{seq:020}.json")
}

#[tokio::test]
async fn nothing_that_is_written_later_makes_what_was_anchored_unknown() {
    let Some(account) = Account::new("beside").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    account.next_second().await;
    account.put_own("zzz", "x").await;
    account.put_own("a/b", &"y".repeat(100 << 10)).await;
    account.put_own(&head_name(5), "no anchor").await;
    // An anchor of another chain, of a record that was proven long ago, and one of another stream.
    let false_one = anchor(AnchorKind::Head, INSTANCE, REQUEST, 3);
    account.put_own(&head_name(3), &false_one.to_json()).await;
    let mut elsewhere = anchor(AnchorKind::Head, INSTANCE, REQUEST, 2);
    elsewhere.stream = "another".to_owned();
    account.put_own(&head_name(2), &elsewhere.to_json()).await;
    for name in ["genesis.json", "seal.json", "seal.json"] {
        account.put_own(name, "not the first").await;
    }
    let expected = json!([
        {"what": "strange-objects", "count": 2},
        {"what": "late-anchors", "count": 3},
    ]);
    let looks = [
        account.verify(&["--strict"]),
        account.verify_export(0, &["--strict"]),
    ];
    for (code, report, text) in looks {
        assert_eq!((code, &report["verdict"]), (1, &"VALID".into()), "{text}");
        assert_eq!(report["proven_to"], 21);
        assert_eq!(report["strict"], expected);
        assert_eq!(report["anchors"]["given"], 3);
        assert_eq!(report["anchors"]["overwritten"], 3);
    }
    assert_eq!(account.verify(&[]).0, 0);
}

#[tokio::test]
async fn what_stands_where_an_anchor_should_is_a_verdict_and_what_was_anchored_stays_known() {
    let Some(account) = Account::new("garbage").await else {
        return;
    };
    account.put_lines(GROUP).await;
    let text = fs::read_to_string(vector().join("ANCHORS.jsonl")).unwrap();
    for line in text.lines().filter(|line| !line.contains("/seal.json")) {
        let object: Value = serde_json::from_str(line).unwrap();
        let (key, body) = (&object["key"], &object["body"]);
        account
            .put(
                &account.bucket,
                key.as_str().unwrap(),
                body.as_str().unwrap(),
            )
            .await;
    }
    account.next_second().await;
    account.put_own(&head_name(14), &"x".repeat(70 << 10)).await;
    account.put_own(&head_name(15), "x").await;
    account.put_own("seal.json", "{}").await;
    for (code, report, text) in [account.verify(&[]), account.verify_export(0, &[])] {
        assert_eq!(
            (code, &report["verdict"]),
            (1, &"TAMPERED".into()),
            "{text}"
        );
        assert_eq!(rules(&report), ["anchor-form"]);
        let detail = report["findings"][0]["detail"].as_str().unwrap();
        for name in [head_name(14), head_name(15), "seal.json".to_owned()] {
            assert!(detail.contains(&name), "{detail}");
        }
        assert_eq!(report["proven_to"], 21);
        assert_eq!(report["anchors"]["genesis"], true);
        assert_eq!(report["sessions"].as_array().unwrap().len(), 3);
    }
}

/// More than fills a page of a list lies before and among the true objects.
#[tokio::test]
async fn a_flood_hides_no_anchor() {
    let Some(account) = Account::new("flood").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    account.next_second().await;
    let mut flood: Vec<_> = (0..50).map(|n| account.own(&format!("a{n:05}"))).collect();
    flood.extend((1..7).map(|n| account.own(&head_name(n))));
    flood.extend((0..1010).map(|n| account.own(&format!("head-{n}"))));
    account.put_all(flood).await;
    // One by one: the bucket's stand-in loses versions of a key that are written at once.
    for _ in 0..30 {
        account.put_own("genesis.json", "x").await;
    }
    let output = account.run(&["verify", REQUEST, "--strict", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["verdict"], "VALID", "{report}");
    assert_eq!(report["anchors"]["matched"], 3);
    assert_eq!(report["anchors"]["overwritten"], 30);
    assert_eq!(report["strict"][0]["count"], 1060);
    assert_eq!(report["strict"][1]["count"], 6);
    let (_, again, export) = account.verify_export(0, &["--strict"]);
    assert_eq!(again["anchors"], report["anchors"]);
    assert_eq!(again["strict"], report["strict"]);
    assert!(export.contains("1060 strange objects"), "{export}");
}
