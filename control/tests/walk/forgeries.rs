//! Whoever holds something of a bastion, or listens on the way, and what they get for it.

use crate::fixture::{Bastion, ROLE_ID, Stage, alarms, alarms_with, post};
use ed25519_dalek::SigningKey;
use powerpole_control::ledger::item::PostKind;
use powerpole_protocol::callback::{self, Alarm, CloseReason, Closed};
use powerpole_protocol::envelope::{Envelope, Message, key_text};
use powerpole_protocol::ledger::State;

fn closed(bastion: &Bastion, count: u64) -> Closed {
    Closed {
        request: bastion.boot.request.clone(),
        attempt: bastion.boot.attempt,
        instance: bastion.instance.clone(),
        reason: CloseReason::Finished,
        head: bastion.heartbeat(count).head,
        sealed: true,
        account_gone: true,
        sessions: 1,
        refused: 0,
        statements: 3,
        alarms: vec![],
        remarks: vec![],
    }
}

/// A second bastion with a key of its own.
async fn another(stage: &Stage) -> Bastion {
    let (_, mut bastion) = stage.launched().await;
    bastion.key = SigningKey::from_bytes(&[9; 32]);
    bastion
}

async fn is_ready(bastion: &Bastion) {
    for (status, _) in [
        bastion.clear(callback::HELLO, &bastion.hello_body()).await,
        bastion.signed(callback::READY, &bastion.ready()).await,
    ] {
        assert_eq!(status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_one_request_open_no_other() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, ours) = stage.launched().await;
    let theirs = another(&stage).await;
    for field in ["boot_token", "handoff_token"] {
        let mut hello = ours.hello_body();
        hello[field] = theirs.hello_body()[field].clone();
        assert_eq!(ours.clear(callback::HELLO, &hello).await.0, 401, "{field}");
    }
    let mut hello = theirs.hello_body();
    hello["request"] = ours.hello_body()["request"].clone();
    assert_eq!(theirs.clear(callback::HELLO, &hello).await.0, 401);
    // The right tokens from another machine: whoever has both had the handoff.
    let mut elsewhere = ours.hello_body();
    elsewhere["instance"] = theirs.hello_body()["instance"].clone();
    assert_eq!(ours.clear(callback::HELLO, &elsewhere).await.0, 409);
    let mut failed = ours.failed_body("patch", "patch_failed");
    failed["boot_token"] = theirs.failed_body("x", "x")["boot_token"].clone();
    assert_eq!(ours.clear(callback::FAILED, &failed).await.0, 401);
    assert_eq!(stage.item(&request).await.failure, None);
    assert_eq!(stage.item(&request).await.state, State::Launching);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_token_cannot_end_a_window_that_has_begun() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    let failed = bastion.failed_body("patch", "patch_failed");
    bastion.clear(callback::FAILED, &failed).await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.failure), (State::Ready, None));
    let (_, answer) = bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(1))
        .await;
    assert_eq!(answer.unwrap().commands, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_are_announced_under_the_bastions_own_prefix_alone() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    bastion.clear(callback::HELLO, &bastion.hello_body()).await;
    let own = bastion.ready().anchor_prefix;
    for other in [
        own.replace(ROLE_ID, "AROASOMEBODYELSE00000"),
        own.replace(bastion.instance.as_str(), "i-0123456789abcdef0"),
        format!("x/{own}"),
        own.trim_end_matches('/').to_owned(),
    ] {
        let mut ready = bastion.ready();
        ready.anchor_prefix = other;
        assert_eq!(bastion.signed(callback::READY, &ready).await.0, 400);
    }
    assert_eq!(stage.item(&request).await.state, State::Booting);
    let (status, _) = bastion.signed(callback::READY, &bastion.ready()).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bastions_signature_moves_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, mut ours) = stage.launched().await;
    is_ready(&ours).await;
    let theirs = another(&stage).await;
    is_ready(&theirs).await;
    // Our words under their key, and their words about our request.
    let own_key = std::mem::replace(&mut ours.key, theirs.key.clone());
    let (heartbeat, end) = (ours.heartbeat(5), closed(&ours, 5));
    assert_eq!(ours.signed(callback::HEARTBEAT, &heartbeat).await.0, 401);
    assert_eq!(ours.signed(callback::CLOSED, &end).await.0, 401);
    assert_eq!(ours.signed(callback::READY, &ours.ready()).await.0, 401);
    ours.key = own_key;
    // Ours, with their instance in it.
    let mut end = closed(&ours, 5);
    end.instance = theirs.instance.clone();
    assert_eq!(ours.signed(callback::CLOSED, &end).await.0, 401);
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.heartbeat), (State::Ready, 0));
    assert!(item.closing.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_message_counts_on_its_own_path_alone() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    assert_eq!(
        bastion
            .signed(callback::CLOSED, &bastion.heartbeat(1))
            .await
            .0,
        401
    );
    assert_eq!(
        bastion
            .signed(callback::HEARTBEAT, &closed(&bastion, 1))
            .await
            .0,
        401
    );
    assert_eq!(stage.item(&request).await.state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_change_nothing_and_a_head_that_goes_back_or_forks_is_refused() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    let deadline = stage.item(&request).await.deadline;
    let ready = bastion.ready();
    for count in 1..=3 {
        let (status, _) = bastion
            .signed(callback::HEARTBEAT, &bastion.heartbeat(count))
            .await;
        assert_eq!(status, 200);
    }
    stage.wait(60);
    // Old ones again, word for word, and `ready` a second time.
    let updates = stage.slack.of("chat.update").len();
    for count in [1, 2, 3] {
        bastion
            .signed(callback::HEARTBEAT, &bastion.heartbeat(count))
            .await;
    }
    let (_, answer) = bastion.signed(callback::READY, &ready).await;
    assert_eq!(answer.unwrap().deadline, deadline);
    assert_eq!(stage.slack.of("chat.update").len(), updates);
    let item = stage.item(&request).await;
    assert_eq!(
        (item.heartbeat, item.latest.clone(), item.deadline),
        (3, Some((30, "cd".repeat(32))), deadline)
    );
    // New ones that do not go on from what was heard.
    let mut back = bastion.heartbeat(4);
    back.head.seq = 29;
    let mut fork = bastion.heartbeat(4);
    fork.head.seq = 30;
    fork.head.hash = "ef".repeat(32);
    for heartbeat in [back, fork] {
        assert_eq!(bastion.signed(callback::HEARTBEAT, &heartbeat).await.0, 400);
    }
    let mut idle = bastion.heartbeat(5);
    idle.head.seq = 30;
    assert_eq!(bastion.signed(callback::HEARTBEAT, &idle).await.0, 200);
    assert_eq!(stage.item(&request).await.heartbeat, 5);

    // The last word may contradict, because the window has to end; it says so to whoever reads it.
    let mut end = closed(&bastion, 3);
    end.head.hash = "ef".repeat(32);
    assert_eq!(bastion.signed(callback::CLOSED, &end).await.0, 200);
    assert_eq!(
        bastion
            .signed(callback::CLOSED, &closed(&bastion, 9))
            .await
            .0,
        200
    );
    let item = stage.item(&request).await;
    let closing = item.closing.clone().unwrap();
    assert_eq!(closing.head, Some((30, "ef".repeat(32))));
    assert!(closing.remarks.iter().any(|r| r.contains("contradicts")));
    // And after it nothing of this bastion moves the request any more.
    bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(20))
        .await;
    bastion.signed(callback::READY, &ready).await;
    let after = stage.item(&request).await;
    assert_eq!((after.state, after.heartbeat), (State::Closed, 5));
    stage.tick().await;
    let dm = after.post(PostKind::Dm).unwrap();
    assert!(!stage.slack.shows(&dm.ts).contains("never-stored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_the_question_and_no_other_key_signs_it() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (_, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    // `signed` checks for each that it names the digest of its own question; here they are told apart.
    let (_, first) = bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(1))
        .await;
    let (_, second) = bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(2))
        .await;
    assert_ne!(first.as_ref().unwrap().to, second.unwrap().to);
    let forged = Envelope::sign(&first.unwrap(), &bastion.key).unwrap();
    let control =
        powerpole_protocol::envelope::parse_key(&bastion.boot.control.signing_key).unwrap();
    assert!(forged.open::<callback::Answer>(&control).is_err());
    assert_ne!(key_text(&control), key_text(&bastion.key.verifying_key()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_no_messages_are_refused_without_a_word_of_them() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let paths = [
        callback::HELLO,
        callback::READY,
        callback::HEARTBEAT,
        callback::CLOSED,
        callback::FAILED,
    ];
    let nested = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let large = format!("{{\"request\":\"{}\"}}", "x".repeat(65 * 1024));
    let bodies = [
        (large, 413),
        (nested, 400),
        (String::new(), 400),
        ("{}".to_owned(), 400),
        ("\u{0}".to_owned(), 400),
        ("{\"body\":\"{\",\"signature\":\"\"}".to_owned(), 400),
    ];
    for path in paths {
        for (body, status) in &bodies {
            let (answered, text) = post(
                bastion.api,
                path,
                &[("content-type", "application/json")],
                body.clone(),
            )
            .await;
            assert_eq!(answered, *status, "{path} {}", &body[..body.len().min(40)]);
            assert!(text.len() < 300, "{path}: {text}");
        }
    }
    // A signature that is none, and one of a kind that nobody sends here.
    let mut envelope = Envelope::sign(&bastion.heartbeat(1), &bastion.key).unwrap();
    envelope.signature = "AAAA".to_owned();
    let text = serde_json::to_string(&envelope).unwrap();
    assert_eq!(
        post(bastion.api, callback::HEARTBEAT, &[], text).await.0,
        401
    );
    assert_eq!(<Closed as Message>::DOMAIN, "closed");
    assert_eq!(stage.item(&request).await.state, State::Launching);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bastion_alarms_of_is_in_the_log_bounded_and_on_one_line() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    let alarm = |code: &str, count| Alarm {
        code: code.to_owned(),
        count,
    };
    let mut heartbeat = bastion.heartbeat(1);
    heartbeat.alarms = vec![alarm("other_person", 3)];
    assert_eq!(bastion.signed(callback::HEARTBEAT, &heartbeat).await.0, 200);
    assert_eq!(alarms(&request), ["bastion"]);
    assert_eq!(alarms_with("code", "other_person"), ["bastion"]);

    // A bastion that was taken over may say what it likes, but not much of it and not as a line of its own.
    let mut flood = bastion.heartbeat(2);
    flood.alarms = vec![alarm("x\n{\"alarm\":\"redeemed_twice\"}", 1); 100];
    assert_eq!(bastion.signed(callback::HEARTBEAT, &flood).await.0, 200);
    let told = alarms(&request);
    assert!(told.len() <= 33 && told.iter().all(|alarm| alarm == "bastion"));

    let mut last = closed(&bastion, 3);
    last.reason = CloseReason::Intrusion;
    last.alarms = vec![alarm("foreign_child", 1)];
    assert_eq!(bastion.signed(callback::CLOSED, &last).await.0, 200);
    assert_eq!(alarms_with("code", "foreign_child"), ["bastion"]);
    assert!(alarms(&request).contains(&"intrusion".to_owned()));
}
