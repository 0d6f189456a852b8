//! Chains and ledgers against rolls.

use crate::account::*;
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_chain::Roll;
use std::fs;

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

/// A control that is taken over can add to the rolls and change none.
#[tokio::test]
async fn whatever_is_added_to_the_rolls_takes_nothing_from_what_they_said() {
    let Some(account) = Account::new("added").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    let own = roll(head());
    let key = format!("rolls/{}", own.object_name());
    account.put(&account.bucket, &key, &own.to_json()).await;
    account.next_second().await;
    account.put(&account.bucket, &key, "later").await;
    for name in ["roll-00000000000000000002.json", "zzz"] {
        let key = format!("rolls/{name}");
        account.put(&account.bucket, &key, "x").await;
    }
    // More than are kept by name.
    let others = (0..1010).map(|n| format!("rolls/zzz-{n}"));
    account.put_all(others.collect()).await;
    let from = format!("s3://{}", account.bucket);
    let (code, report, text) = account.verify(&["--rolls", &from]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{text}");
    assert_eq!(report["rolls"]["outcome"], "CLOSED");
    assert!(text.contains("roll 2 contradicts"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ROLLS.jsonl");
    let file = file.to_str().unwrap();
    for arguments in [
        &["rolls", "--from", &from, "--out", file][..],
        &["rolls", "--from", file],
    ] {
        let output = account.run(arguments);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for word in ["CONTRADICTED", "(roll-form)", "1 later version", "zzz"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        let output = account.run(&["rolls", "--json", "--strict", "--from", arguments[2]]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["foreign"], &report["later_versions"]),
            (&1011.into(), &1.into())
        );
    }
}

/// Who edits the ledger sets a request that is over back to one that goes on, so that no roll names its end.
#[tokio::test]
async fn a_chain_that_was_sealed_before_the_last_roll_and_has_no_end_in_one_is_a_contradiction() {
    let Some(mut account) = Account::new("setback").await else {
        return;
    };
    account.put_lines(GROUP).await;
    account.put_anchors(&account.bucket, ROLE).await;
    account.set_text("state", "READY");
    account.keep_item().await;
    let open = Roll {
        ended: vec![],
        ..roll(head())
    };
    let key = format!("rolls/{}", open.object_name());
    account.put(&account.bucket, &key, &open.to_json()).await;
    let from = format!("s3://{}", account.bucket);
    let (code, report, text) = account.verify(&["--rolls", &from]);
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"TAMPERED".into()),
        "{text}"
    );
    assert_eq!(rules(&report), ["roll-differs"]);
    assert!(text.contains("roll-lacks-end"), "{text}");
    // For the rolls alone it may still go on, until 31 days have passed.
    let rolls = ["rolls", "--from", &from, "--ledger", "dynamodb"];
    assert!(!told(&account.run(&rolls)).contains("WRONG"));
    let later = Roll {
        number: 2,
        from_s: open.until_s,
        until_s: open.until_s + 32 * 86_400,
        previous: open.digest(),
        first: 2,
        requested: vec![],
        ..open
    };
    let key = format!("rolls/{}", later.object_name());
    account.put(&account.bucket, &key, &later.to_json()).await;
    let output = account.run(&rolls);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("CONTRADICTED"), "{text}");
    assert!(text.contains("(roll-lacks-end)"), "{text}");
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
