//! Tickets that KMS signs.

use crate::fixture::Stage;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MacAlgorithmSpec};
use powerpole_control::tickets::TicketKey;
use powerpole_protocol::ledger::State;
use std::sync::atomic::Ordering;

const ALIAS: &str = "alias/powerpole/ticket/orders-prod";

/// A stage whose only cluster has its ticket key in KMS.
async fn stage() -> Option<Stage> {
    Stage::start_with(|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("ticket_key_file"))
            .unwrap();
        text.replace(line, &format!("ticket_kms_key = \"{ALIAS}\""))
    })
    .await
}

async fn make_key(kms: &aws_sdk_kms::Client) {
    let made = kms
        .create_key()
        .key_spec(KeySpec::Hmac256)
        .key_usage(KeyUsageType::GenerateVerifyMac)
        .send()
        .await
        .unwrap();
    kms.create_alias()
        .alias_name(ALIAS)
        .target_key_id(made.key_metadata().unwrap().key_id())
        .send()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_signed_by_kms_under_a_key_that_control_does_not_hold() {
    let Some(stage) = stage().await else {
        return;
    };
    let keys: Vec<&TicketKey> = stage.service.keys.tickets.values().collect();
    assert!(matches!(keys[..], [TicketKey::Kms(name)] if name == ALIAS));
    let kms = aws_sdk_kms::Client::new(&stage.settings);
    make_key(&kms).await;
    let (_, bastion) = stage.launched().await;
    let address = stage.address(&bastion.instance).await;
    let ticket = bastion.handoff.ticket;
    let mac = data_encoding::HEXLOWER
        .decode(ticket.mac.as_bytes())
        .unwrap();
    let verify = |message: Vec<u8>| {
        kms.verify_mac()
            .key_id(ALIAS)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(message))
            .mac(Blob::new(mac.clone()))
            .send()
    };
    assert!(verify(ticket.mac_input(address)).await.unwrap().mac_valid());
    verify(ticket.extension_mac_input(address))
        .await
        .unwrap_err();
    let elsewhere = "10.66.6.6".parse().unwrap();
    verify(ticket.mac_input(elsewhere)).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_its_bastions_address_alone_also_under_a_key_from_a_file() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (_, bastion) = stage.launched().await;
    let address = stage.address(&bastion.instance).await;
    let ticket = bastion.handoff.ticket;
    assert_eq!(ticket.clone().signed(&[0x5a; 32], address), ticket);
    let elsewhere = ticket.clone().signed(&[0x5a; 32], [10, 66, 6, 6].into());
    assert_ne!(elsewhere, ticket);
}

#[tokio::test(flavor = "multi_thread")]
async fn kms_that_does_not_answer_is_asked_again_and_the_same_bastion_gets_its_handoff() {
    let Some(stage) = stage().await else {
        return;
    };
    make_key(&aws_sdk_kms::Client::new(&stage.settings)).await;
    stage.silent_kms.store(i64::MAX, Ordering::SeqCst);
    let request = stage.ask("U0ALICE").await;
    stage.tick().await;
    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    let waiting = stage.item(&request).await;
    assert!(waiting.instance.is_some() && waiting.handoff_at.is_none());
    assert_eq!(waiting.state, State::Launching);

    stage.silent_kms.store(0, Ordering::SeqCst);
    stage.tick().await;
    let bastion = stage.bastion(&request).await;
    assert_eq!(Some(bastion.instance), waiting.instance);
    assert_eq!(bastion.handoff.ticket.mac.len(), 64);
    assert_eq!(stage.instances().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_kms_does_not_know_fails_the_request_and_says_so() {
    let Some(stage) = stage().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    stage.tick().await;
    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    let failure = item.failure.clone().unwrap();
    assert_eq!(
        (item.state, failure.code.as_str()),
        (State::Failed, "aws_refused")
    );
    assert!(failure.message.contains("GenerateMac"), "{failure:?}");
    stage.tick().await;
    assert_eq!(stage.secrets().await, 0, "no handoff was written");
}
