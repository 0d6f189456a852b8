//! What root on the session's own bastion writes into its own folder of the bucket.

use crate::account::*;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
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

    /// In one part: S3 gives such an object the time when it was begun.
    async fn put_own_in_parts(&self, name: &str, body: &str) {
        let (s3, bucket, key) = (self.s3(), &self.bucket, self.own(name));
        let begun = s3.create_multipart_upload().bucket(bucket).key(&key);
        let begun = begun.send().await.unwrap();
        let id = begun.upload_id().unwrap();
        let part = s3.upload_part().bucket(bucket).key(&key).upload_id(id);
        let part = part.part_number(1).body(body.as_bytes().to_vec().into());
        let part = part.send().await.unwrap();
        let done = CompletedPart::builder().part_number(1);
        let done = done.set_e_tag(part.e_tag().map(str::to_owned)).build();
        let done = CompletedMultipartUpload::builder().parts(done).build();
        let complete = s3.complete_multipart_upload().bucket(bucket).key(&key);
        let complete = complete.upload_id(id).multipart_upload(done);
        complete.send().await.unwrap();
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

/// Begun in the window and completed long after, with the earlier time.
#[tokio::test]
async fn what_was_written_in_parts_takes_no_anchor_s_place() {
    let Some(account) = Account::new("parts").await else {
        return;
    };
    account.put_lines(GROUP).await;
    let high = anchor(AnchorKind::Head, INSTANCE, REQUEST, 9999);
    account
        .put_own_in_parts(&head_name(9999), &high.to_json())
        .await;
    account.put_own_in_parts("seal.json", "no seal").await;
    account.put_own_in_parts("genesis.json", "no genesis").await;
    account.next_second().await;
    account.put_anchors(&account.bucket, ROLE).await;
    let expected = json!([{"what": "strange-objects", "count": 3}]);
    let looks = [
        account.verify(&["--strict", "--search"]),
        account.verify_export(0, &["--strict"]),
    ];
    for (code, report, text) in looks {
        assert_eq!((code, &report["verdict"]), (1, &"VALID".into()), "{text}");
        assert_eq!(
            (&report["strict"], &report["proven_to"]),
            (&expected, &21.into())
        );
        assert_eq!(report["anchors"]["given"], 3);
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
