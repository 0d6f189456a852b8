//! What is read is what the auditor names.

use crate::account::*;

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
