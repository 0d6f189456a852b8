//! The adapters before a real service interface: moto, named by `POWERPOLE_TEST_AWS` (its address).

use super::keeper::tests::genesis;
use super::*;
use aws_config::{BehaviorVersion, Region};
use powerpole_chain::{AnchorKind, Parsed, parse_line};

async fn aws(test: &str) -> Option<SdkConfig> {
    let Ok(endpoint) = std::env::var("POWERPOLE_TEST_AWS") else {
        eprintln!("SKIPPED {test}: POWERPOLE_TEST_AWS is not set");
        return None;
    };
    let credentials =
        aws_sdk_s3::config::Credentials::new("AKIATRIAL", "secret", None, None, "trial");
    Some(
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            .load()
            .await,
    )
}

fn config(spool_dir: PathBuf, places: EvidencePlaces) -> EvidenceConfig {
    EvidenceConfig {
        spool_dir,
        places,
        times: BastionTimes {
            warn_before_s: vec![],
            renew_lease_s: 15,
            heartbeat_s: 15,
            freeze_after_s: 30,
            end_after_s: 120,
        },
        genesis: genesis(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_anchors_arrive_in_cloudwatch_logs_and_s3() {
    let Some(aws) = aws("lines_and_anchors_arrive_in_cloudwatch_logs_and_s3").await else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let unique = temp
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .to_lowercase()
        .replace('.', "");
    let places = EvidencePlaces {
        log_group: format!("/powerpole/trial-{unique}"),
        log_stream: genesis().log_stream,
        anchor_bucket: format!("anchors-{unique}"),
    };
    let logs = aws_sdk_cloudwatchlogs::Client::new(&aws);
    logs.create_log_group()
        .log_group_name(&places.log_group)
        .send()
        .await
        .unwrap();
    let s3_config = aws_sdk_s3::config::Builder::from(&aws)
        .force_path_style(true)
        .build();
    let s3 = aws_sdk_s3::Client::from_conf(s3_config);
    s3.create_bucket()
        .bucket(&places.anchor_bucket)
        .object_lock_enabled_for_bucket(true)
        .send()
        .await
        .unwrap();

    let spool = temp.path().join("spool");
    let evidence = Evidence::begin(config(spool.clone(), places.clone()), &aws)
        .await
        .unwrap();
    let recorder = evidence.recorder();
    for n in 0..3000u32 {
        recorder
            .record(Kind::Output, 1, &[u8::try_from(n % 251).unwrap(); 700])
            .unwrap();
    }
    let prefix = evidence.anchor_prefix();
    let genesis_head = evidence.genesis_head();
    let outcome = evidence.seal(SealReason::Finished).await.unwrap();
    assert!(
        outcome.sealed && outcome.shipped && outcome.anchored,
        "{outcome:?}"
    );

    let mut records = std::collections::BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let page = logs
            .get_log_events()
            .log_group_name(&places.log_group)
            .log_stream_name(&places.log_stream)
            .start_from_head(true)
            .set_next_token(token.clone())
            .send()
            .await
            .unwrap();
        for event in page.events() {
            if let Parsed::Record(record) = parse_line(event.message().unwrap().as_bytes()).unwrap()
            {
                records.insert(record.seq, record);
            }
        }
        let next = page.next_forward_token().map(str::to_owned);
        if next == token {
            break;
        }
        token = next;
    }
    assert_eq!(records.len() as u64, outcome.head.seq + 1);
    let last = records.last_key_value().unwrap().1;
    assert_eq!((last.kind, last.hash()), (Kind::Seal, outcome.head.hash));
    assert_eq!(hex(&records[&0].hash()), genesis_head);

    for (name, kind, hash) in [
        ("genesis.json", AnchorKind::Genesis, records[&0].hash()),
        ("seal.json", AnchorKind::Seal, outcome.head.hash),
    ] {
        let object = s3
            .get_object()
            .bucket(&places.anchor_bucket)
            .key(format!("{prefix}{name}"))
            .send()
            .await;
        let body = object.unwrap().body.collect().await.unwrap().into_bytes();
        let anchor = powerpole_chain::Anchor::parse(&body).unwrap();
        assert_eq!((anchor.kind, anchor.head), (kind, hash));
    }
    // The first version counts: a second write of the same key changes nothing.
    let bucket = AnchorBucket::new(&aws, &places.anchor_bucket);
    let key = format!("{prefix}seal.json");
    let again = anchor::AnchorStore::put_once(&bucket, &key, b"{}".to_vec());
    assert_eq!(again.await.unwrap(), anchor::Put::WasThere);
}
