//! The roll of requests, on moto: numbers without a gap, rolls without a gap, one of each whoever is first.

use crate::fixture::{Stage, bucket_client};
use powerpole_chain::{Outcome, Roll, RollCheck, RollReport};
use powerpole_control::ledger::item::Item;
use powerpole_control::ledger::transitions as to;
use powerpole_control::ledger::{Created, Moved};
use powerpole_control::roll;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::sync::Arc;

const DAY: i64 = 86_400;

/// Every roll in the bucket, by key.
async fn rolls(stage: &Stage) -> Vec<Roll> {
    let client = bucket_client(&stage.settings);
    let page = client
        .list_objects_v2()
        .bucket("powerpole-anchors")
        .prefix("rolls/")
        .send()
        .await
        .unwrap();
    let mut all = Vec::new();
    for object in page.contents() {
        let got = client
            .get_object()
            .bucket("powerpole-anchors")
            .key(object.key().unwrap())
            .send()
            .await
            .unwrap();
        let body = got.body.collect().await.unwrap().into_bytes();
        all.push(Roll::parse(&body).unwrap());
    }
    all
}

fn report(rolls: &[Roll]) -> RollReport {
    let mut check = RollCheck::new();
    for roll in rolls {
        check.take(roll);
    }
    check.finish()
}

async fn item(stage: &Stage, n: u8) -> Item {
    let request = stage.ask("U0ALICE").await;
    let item = stage.item(&request).await;
    assert_eq!(item.number, u64::from(n));
    item
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_at_once_get_numbers_without_a_gap() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let first = item(&stage, 1).await;
    let stage = Arc::new(stage);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12u8 {
        let (stage, mut next) = (Arc::clone(&stage), first.clone());
        // Four of them are sent twice.
        next.request = RequestId::from_parts(1_795_435_200_000, [n % 8; 10]);
        tasks.spawn(async move { stage.service.ledger.create(&next).await.unwrap() });
    }
    let created = tasks.join_all().await;
    assert_eq!(created.iter().filter(|c| **c == Created::New).count(), 8);
    let mut numbers: Vec<u64> = stage
        .service
        .ledger
        .unrolled()
        .await
        .unwrap()
        .iter()
        .map(|item| item.number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=9).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_keep_one_row_of_rolls_that_names_every_request_and_every_end() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let replica = stage.replica();
    let denied = item(&stage, 1).await.request;
    let waiting = item(&stage, 2).await.request;
    let deny = to::deny(
        &"carol@example.com".parse().unwrap(),
        "U0CAROL",
        "no",
        stage.now(),
    );
    let moved = stage.service.ledger.apply(&denied, &deny).await.unwrap();
    assert!(matches!(moved, Moved::Won(_)));

    // Both find the same period due; nothing is due before its end and delay.
    for control in [&stage.service, &replica] {
        roll::keep_up(control).await;
    }
    let before = rolls(&stage).await;
    assert!(before.iter().all(|roll| roll.requested.is_empty()));
    stage.wait(DAY + 900);
    tokio::join!(roll::keep_up(&stage.service), roll::keep_up(&replica));
    let lapse = stage.service.ledger.apply(&waiting, &to::lapse()).await;
    assert!(matches!(lapse.unwrap(), Moved::Won(_)));
    // Nobody looked for three days.
    stage.wait(3 * DAY);
    tokio::join!(roll::keep_up(&replica), roll::keep_up(&stage.service));
    roll::keep_up(&stage.service).await;

    let rolls = rolls(&stage).await;
    let report = report(&rolls);
    assert_eq!(report.findings, vec![]);
    let ends: Vec<(u64, String, Outcome)> = report
        .requests
        .into_iter()
        .map(|(n, (request, end))| (n, request, end.unwrap().outcome))
        .collect();
    assert_eq!(
        ends,
        vec![
            (1, denied.to_string(), Outcome::Denied),
            (2, waiting.to_string(), Outcome::Lapsed),
        ]
    );
    assert_eq!(stage.service.ledger.unrolled().await.unwrap(), vec![]);
    assert_eq!(stage.item(&denied).await.state, State::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_roll_and_ledger_names_no_end_twice() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = item(&stage, 1).await.request;
    let lapse = stage.service.ledger.apply(&request, &to::lapse()).await;
    assert!(matches!(lapse.unwrap(), Moved::Won(_)));
    stage.wait(DAY + 900);
    // What a control that was killed right after the write leaves: the roll, and no mark in the ledger.
    let item = stage.item(&request).await;
    let unmarked = item.clone();
    roll::keep_up(&stage.service).await;
    let kept = rolls(&stage).await;
    assert_eq!(kept.last().unwrap().ended.len(), 1);
    let client = aws_sdk_dynamodb::Client::new(&stage.settings);
    client
        .update_item()
        .table_name("powerpole-ledger")
        .key(
            "request",
            aws_sdk_dynamodb::types::AttributeValue::S(unmarked.request.to_string()),
        )
        .update_expression("SET unrolled = :u REMOVE roll")
        .expression_attribute_values(
            ":u",
            aws_sdk_dynamodb::types::AttributeValue::S("unrolled".to_owned()),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(stage.service.ledger.unrolled().await.unwrap().len(), 1);
    let replica = stage.replica();
    stage.wait(DAY);
    roll::keep_up(&replica).await;
    assert_eq!(report(&rolls(&stage).await).findings, vec![]);
    assert_eq!(stage.service.ledger.unrolled().await.unwrap(), vec![]);
}
