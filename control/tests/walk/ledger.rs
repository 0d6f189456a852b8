//! The DynamoDB adapter's contract, on moto.

use crate::fixture::Stage;
use powerpole_control::clock::after;
use powerpole_control::ledger::item::PostKind;
use powerpole_control::ledger::transitions as to;
use powerpole_control::ledger::{Condition, Created, Move, Moved};
use powerpole_control::seal::Decision;
use powerpole_protocol::id::{Attempt, RequestId};
use powerpole_protocol::ledger::{State, attribute};

async fn won(stage: &Stage, request: &RequestId, step: Move) -> bool {
    matches!(
        stage.service.ledger.apply(request, &step).await.unwrap(),
        Moved::Won(_)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_holds_and_fails_as_it_says() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    let item = stage.item(&request).await;
    let ledger = &stage.service.ledger;
    let again = stage.service.create(&item).await;
    assert_eq!(again.unwrap(), Created::Exists);

    let when = |condition| Move::default().when(condition).set("probe", 5u64);
    let cases = [
        (Condition::Absent("probe"), true),
        (Condition::Absent("probe"), false),
        (Condition::Is("probe", 5u64.into()), true),
        (Condition::Is("probe", 6u64.into()), false),
        (Condition::Is("nothing", 5u64.into()), false),
        (
            Condition::IsOneOf(
                attribute::STATE,
                vec![State::Ready.into(), State::Requested.into()],
            ),
            true,
        ),
        (
            Condition::IsOneOf(attribute::STATE, vec![State::Ready.into()]),
            false,
        ),
        (Condition::AbsentOrBelow("probe", 6u64.into()), true),
        (Condition::AbsentOrBelow("probe", 5u64.into()), false),
        (Condition::AbsentOrBelow("nothing", 0u64.into()), true),
        (Condition::AbsentOrAbove("probe", 4u64.into()), true),
        (Condition::AbsentOrAbove("probe", 5u64.into()), false),
    ];
    for (condition, expected) in cases {
        let text = format!("{condition:?}");
        assert_eq!(
            won(&stage, &request, when(condition)).await,
            expected,
            "{text}"
        );
    }

    let stranger = RequestId::from_parts(1, [1; 10]);
    assert!(!won(&stage, &stranger, Move::default().set("probe", 1u64)).await);
    assert!(ledger.read(&stranger).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_given_to_one_and_given_again_when_it_has_run_out() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    let claim = |now| to::claim_post(PostKind::Card, State::Requested, now);
    let now = stage.now();
    let all =
        futures_util::future::join_all((0..8).map(|_| won(&stage, &request, claim(now)))).await;
    assert_eq!(all.into_iter().filter(|won| *won).count(), 1);
    assert!(!won(&stage, &request, claim(after(now, to::CLAIM_S))).await);
    assert!(won(&stage, &request, claim(after(now, to::CLAIM_S + 1))).await);
    // A claim on a state that has passed is not given.
    assert!(won(&stage, &request, to::lapse()).await);
    assert!(!won(&stage, &request, claim(after(now, 1000))).await);
    // And nothing leaves a final state.
    let email = stage.item(&request).await.operator;
    let decision = Decision {
        approver: &email,
        slack: "U1",
        at: now,
    };
    assert!(!won(&stage, &request, to::approve(decision, "seal")).await);
    assert!(!won(&stage, &request, to::give_up(Attempt(0))).await);
}
