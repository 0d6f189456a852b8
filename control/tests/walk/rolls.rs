//! The roll of requests, on moto: numbers without a gap, rolls without a gap, one of each whoever is first.

use crate::fixture::{Stage, alarms, alarms_with, bucket_client};
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_chain::{Outcome, Roll, RollCheck, RollReport};
use powerpole_control::ledger::item::Item;
use powerpole_control::ledger::transitions as to;
use powerpole_control::ledger::{Created, Moved};
use powerpole_control::roll;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::sync::Arc;

const DAY: i64 = 86_400;

/// Every roll in the bucket, by key, and no stray.
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
        all.extend(Roll::parse(&body));
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

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
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
        tasks.spawn(async move { stage.service.create(&next).await.unwrap() });
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
    let again = [("unrolled", text("unrolled"))];
    stage
        .edit(unmarked.request.as_str(), &again, &["roll"])
        .await;
    assert_eq!(stage.service.ledger.unrolled().await.unwrap().len(), 1);
    let replica = stage.replica();
    stage.wait(DAY);
    roll::keep_up(&replica).await;
    assert_eq!(report(&rolls(&stage).await).findings, vec![]);
    assert_eq!(stage.service.ledger.unrolled().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_was_changed_in_the_ledger_hides_nobody() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let mut requests = Vec::new();
    for n in 1..=4 {
        requests.push(item(&stage, n).await.request);
    }
    // One in the middle, and the newest, which no later time contradicts: far ahead, and just so far that it is never due.
    let soon = stage.now().as_second() + DAY + 900 + 60;
    let soon = jiff::Timestamp::from_second(soon).unwrap().to_string();
    for (n, time) in [(1, "9000-01-01T00:00:00Z"), (3, soon.as_str())] {
        let set = [("requested_at", text(time))];
        stage.edit(requests[n].as_str(), &set, &[]).await;
    }
    stage.wait(DAY + 900);
    roll::keep_up(&stage.service).await;
    let report = report(&rolls(&stage).await);
    assert_eq!((report.requests.len(), report.findings.len()), (4, 0));
    for (n, request) in requests.iter().enumerate() {
        let alarm = alarms(request).contains(&"request_altered".to_owned());
        assert_eq!(alarm, n % 2 == 1, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_taken_out_of_the_index_is_named_all_the_same() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = item(&stage, 1).await.request;
    stage.wait(DAY + 900);
    roll::keep_up(&stage.service).await;
    let lapse = stage.service.ledger.apply(&request, &to::lapse()).await;
    assert!(matches!(lapse.unwrap(), Moved::Won(_)));
    stage
        .edit(request.as_str(), &[], &["unrolled", "open"])
        .await;
    stage.wait(DAY);
    // A control that has just started knows it from the bucket.
    roll::keep_up(&stage.replica()).await;
    let report = report(&rolls(&stage).await);
    assert_eq!(report.findings, vec![]);
    let (_, end) = &report.requests[&1];
    assert_eq!(end.as_ref().unwrap().outcome, Outcome::Lapsed);
    assert_eq!(alarms(&request), ["roll_end_hidden"]);
}

async fn delete_and_set_back(stage: &Stage, request: &RequestId, last: u64) {
    let client = aws_sdk_dynamodb::Client::new(&stage.settings);
    let delete = client.delete_item().table_name("powerpole-ledger");
    let delete = delete.key("request", text(request.as_str()));
    delete.send().await.unwrap();
    let set = [("last", AttributeValue::N(last.to_string()))];
    stage.edit("#requests", &set, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_is_given_twice_when_the_newest_is_deleted_and_the_counter_set_back() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    item(&stage, 1).await;
    let gone = item(&stage, 2).await.request;
    delete_and_set_back(&stage, &gone, 1).await;
    let next = stage.ask("U0ALICE").await;
    assert_eq!(stage.item(&next).await.number, 3);
    assert_eq!(alarms(&next), ["request_counter_back"]);
    // The one that is gone is missed: the first look does not believe an index that may lag behind.
    stage.wait(DAY + 900);
    for _ in 0..2 {
        roll::keep_up(&stage.service).await;
    }
    assert_eq!(rolls(&stage).await, vec![]);
    let said = "request number 2 is not in the ledger";
    assert_eq!(
        alarms_with("error", said).first().unwrap(),
        "roll_request_missing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_that_has_just_started_gives_no_number_that_a_roll_names() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let kept = item(&stage, 1).await;
    let gone = item(&stage, 2).await.request;
    stage.wait(DAY + 900);
    roll::keep_up(&stage.service).await;
    delete_and_set_back(&stage, &gone, 1).await;
    let replica = stage.replica();
    roll::keep_up(&replica).await;
    let mut next = kept.clone();
    next.request = RequestId::from_parts(1, [9; 10]);
    assert_eq!(replica.create(&next).await.unwrap(), Created::New);
    assert_eq!(stage.item(&next.request).await.number, 3);
    stage.wait(DAY);
    roll::keep_up(&replica).await;
    assert_eq!(alarms(&gone), ["roll_request_missing"]);
    let rolls = rolls(&stage).await;
    assert_eq!(rolls.last().unwrap().requested, [next.request.to_string()]);
    assert_eq!(report(&rolls).findings, vec![]);
}

async fn put(stage: &Stage, key: &str, body: String) {
    let put = bucket_client(&stage.settings).put_object();
    let put = put.bucket("powerpole-anchors").key(key);
    put.body(body.into_bytes().into()).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_none_of_the_row_of_rolls_is_alarmed_and_stops_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    item(&stage, 1).await;
    stage.wait(DAY + 900);
    roll::keep_up(&stage.service).await;
    let strays = [
        "rolls/zzz-stray".to_owned(),
        "rolls/AAA-stray".to_owned(),
        format!("rolls/{}", Roll::name_of(9_999_999_999_999_999)),
        "rolls/roll-2.json".to_owned(),
    ];
    for key in &strays {
        put(&stage, key, "{}".to_owned()).await;
    }
    item(&stage, 2).await;
    stage.wait(DAY);
    roll::keep_up(&stage.replica()).await;
    let report = report(&rolls(&stage).await);
    assert_eq!((report.requests.len(), report.findings.len()), (2, 0));
    for key in strays {
        assert_eq!(
            alarms_with("key", key.clone()).first().unwrap(),
            "roll_stray"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_roll_that_is_garbage_or_of_a_time_to_come_stops_the_rolls_loudly() {
    for future in [false, true] {
        let Some(stage) = Stage::start().await else {
            return;
        };
        item(&stage, 1).await;
        stage.wait(DAY + 900);
        roll::keep_up(&stage.service).await;
        let mut next = rolls(&stage).await.pop().unwrap();
        next.number += 1;
        (next.from_s, next.until_s) = (next.until_s, next.until_s + 9000 * 365 * DAY as u64);
        let body = if future {
            next.to_json()
        } else {
            "{}".to_owned()
        };
        put(&stage, &format!("rolls/{}", next.object_name()), body).await;
        stage.wait(DAY);
        roll::keep_up(&stage.service).await;
        let (said, alarm) = if future {
            (
                format!(
                    "roll {} ends in the future; rolls stop until somebody has looked at it",
                    next.number
                ),
                "roll_in_future",
            )
        } else {
            (
                format!(
                    "rolls/{} is not a roll; rolls stop until somebody has looked at it",
                    next.object_name()
                ),
                "roll_unreadable",
            )
        };
        assert_eq!(alarms_with("error", said).first().unwrap(), alarm);
    }
}
