//! The end of a bastion: no new logins, sessions ended, account gone, chain sealed, control told.
//!
//! Every part is bounded in time, and one that fails leaves a remark and does not keep the next from being
//! done: the database's own event closes an account that we could not, and systemd powers off in any case.

use crate::account::{Account, AccountError, Closed as AccountClosed, ReaderEnd};
use crate::boot::{Bastion, Machine};
use crate::clock;
use crate::control::persist;
use crate::failure::causes;
use crate::ssm;
use powerpole_chain::{Kind, SealReason};
use powerpole_protocol::callback::{Alarm, CLOSING_LIMIT_S, ChainHead, CloseReason, Closed};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest time for ending sessions.
const SESSIONS_LIMIT: Duration = Duration::from_secs(15);
/// Longest time for closing the account; the database's own event goes on with it, its lease of 180 s at the latest.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(20);
/// How long readers get when the writer is done with the account: they see its drop within the replica lag.
const READERS_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries to close the account.
const ACCOUNT_PAUSE: Duration = Duration::from_secs(2);
/// Longest time for sealing, shipping and anchoring.
const SEAL_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for telling control.
const CLOSED_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for [`close`]: more than its parts may take together (amazon-ssm-agent 10 s, the recorder's endpoint
/// 3 s, one more call to a reader, and the limits above), so that it ends one that has no bound of its own.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// What systemd's timer allows after the deadline: [`LIMIT`], [`CLOSED_LIMIT`] and a little more.
pub(crate) const GRACE: Duration = Duration::from_secs(CLOSING_LIMIT_S);

/// What the end left behind.
#[derive(Debug, Default)]
pub(crate) struct Report {
    head: Option<ChainHead>,
    sealed: bool,
    account_gone: bool,
    sessions: u32,
    refused: u32,
    statements: u64,
    alarms: Vec<Alarm>,
    remarks: Vec<String>,
}

impl Report {
    /// What is left of an end that took longer than [`LIMIT`].
    pub(crate) fn broken_off() -> Self {
        let mut report = Self::default();
        report.remark(format!("closing did not end within {} s", LIMIT.as_secs()));
        report
    }

    /// What control has not heard of yet.
    pub(crate) fn alarms(self) -> Vec<Alarm> {
        self.alarms
    }

    fn remark(&mut self, text: String) {
        tracing::error!(remark = text, "closing did not go as it should");
        self.remarks.push(text);
    }
}

/// Closes all that is up.
pub(crate) async fn close(machine: &Machine, bastion: &mut Bastion, reason: CloseReason) -> Report {
    let mut report = Report::default();
    end_sessions(machine, bastion, reason, &mut report).await;
    close_account(bastion, &mut report).await;
    seal(bastion, reason, &mut report).await;
    report
}

/// Tells control the last word; it is repeated for a while and then left to control's own tick.
pub(crate) async fn tell(machine: &Machine, reason: CloseReason, report: Report) {
    let Some(head) = report.head else { return };
    let closed = Closed {
        request: machine.document.request.clone(),
        attempt: machine.document.attempt,
        instance: machine.identity.instance.clone(),
        reason,
        head,
        sealed: report.sealed,
        account_gone: report.account_gone,
        sessions: report.sessions,
        refused: report.refused,
        statements: report.statements,
        alarms: report.alarms,
        remarks: report.remarks,
    };
    if let Err(error) = persist(CLOSED_LIMIT, || machine.control.closed(&closed)).await {
        tracing::error!(error = causes(&error), "control did not take the last word");
    }
}

async fn end_sessions(
    machine: &Machine,
    bastion: &mut Bastion,
    reason: CloseReason,
    report: &mut Report,
) {
    let sql = bastion.sql.take();
    let no_more_statements = async {
        match sql {
            Some(sql) => sql.stop().await,
            None => 0,
        }
    };
    let Some(broker) = bastion.broker.take() else {
        report.statements = no_more_statements.await;
        return;
    };
    broker.refuse_new();
    // At once, and before amazon-ssm-agent, which takes its time and would take the sessions' last words with it.
    let sessions = tokio::time::timeout(SESSIONS_LIMIT, broker.end_all(message(reason)));
    let (ended, statements) = tokio::join!(sessions, no_more_statements);
    report.statements = statements;
    match ended {
        Ok(0) => {}
        Ok(left) => report.remark(format!("{left} sessions did not end")),
        Err(_elapsed) => report.remark("sessions did not end in time".to_owned()),
    }
    // The broker refuses whoever comes meanwhile, and looks at every worker until there are none any more.
    if let Err(error) = ssm::stop(&machine.config).await {
        report.remark(format!("amazon-ssm-agent was not stopped: {error}"));
    }
    let counts = broker.counts();
    (report.sessions, report.refused) = (counts.admitted, counts.refused);
    report.alarms = broker.alarms();
}

async fn close_account(bastion: &mut Bastion, report: &mut Report) {
    let Some(account) = bastion.account.take() else {
        // Nothing was opened, so nothing is left.
        report.account_gone = true;
        return;
    };
    let start = clock::boottime();
    let (over, give_up) = watch::channel(false);
    // Readers from the start on: a writer that does not answer keeps no connection on a reader alive.
    let mut readers = tokio::spawn({
        let account = Arc::clone(&account);
        async move { account.end_on_readers(give_up).await }
    });
    let writer = close_on_writer(&account, report).await;
    let left = ACCOUNT_LIMIT.saturating_sub(clock::boottime().since(start));
    let ended = match tokio::time::timeout(left.min(READERS_LIMIT), &mut readers).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            over.send_replace(true);
            readers.await
        }
    };
    let readers = ended.unwrap_or_else(|error| {
        report.remark(format!(
            "connections on readers were not looked at: {error}"
        ));
        Vec::new()
    });
    for reader in &readers {
        if let Err(error) = &reader.ended {
            let (instance, why) = (&reader.instance, causes(error));
            report.remark(format!(
                "connections of the account on {instance} may live on: {why}"
            ));
        }
    }
    report.account_gone = writer.is_some() && all_ended(&account, &readers);
    if let Some(evidence) = &bastion.evidence {
        let event = account_event(&account, writer.as_ref(), &readers);
        if let Err(error) = evidence.recorder().record_json(Kind::Event, 0, &event) {
            report.remark(format!("the account's end was not recorded: {error}"));
        }
    }
}

/// Whether every reader that the handoff names is done.
fn all_ended(account: &Account, readers: &[ReaderEnd]) -> bool {
    readers.len() == account.readers() && readers.iter().all(|reader| reader.ended.is_ok())
}

/// What the chain keeps of the account's end.
fn account_event(
    account: &Account,
    writer: Option<&AccountClosed>,
    readers: &[ReaderEnd],
) -> Value {
    let readers: Vec<Value> = readers
        .iter()
        .map(|reader| {
            let (killed, why) = match &reader.ended {
                Ok(killed) => (Some(*killed), None),
                Err(error) => (None, Some(causes(error))),
            };
            let ms = u64::try_from(reader.took.as_millis()).unwrap_or(u64::MAX);
            json!({"instance": reader.instance, "gone": reader.ended.is_ok(), "connections_killed": killed, "why": why, "ms": ms})
        })
        .collect();
    json!({
        "event": "account_closed",
        "account": account.name_host(),
        "gone": writer.is_some(),
        "connections_killed": writer.map(|closed| closed.connections_killed),
        "closed_at": writer.map(|closed| closed.closed_at),
        "reason": writer.map(|closed| closed.reason.as_str()),
        "readers": readers,
    })
}

async fn close_on_writer(account: &Account, report: &mut Report) -> Option<AccountClosed> {
    let start = clock::boottime();
    loop {
        let left = ACCOUNT_LIMIT.saturating_sub(clock::boottime().since(start));
        match tokio::time::timeout(left, account.close()).await {
            Ok(Ok(closed)) => {
                tracing::info!(
                    connections_killed = closed.connections_killed,
                    "the account is gone"
                );
                return Some(closed);
            }
            // The database has the account in hand: it is locked, and the event goes on with what is left.
            Ok(Err(error @ AccountError::NotGone { .. })) => {
                report.remark(format!("the database goes on closing: {error}"));
                return None;
            }
            Ok(Err(error)) if left > ACCOUNT_PAUSE => {
                tracing::warn!(
                    error = causes(&error),
                    "the account was not closed, trying again"
                );
                tokio::time::sleep(ACCOUNT_PAUSE).await;
            }
            Ok(Err(error)) => {
                report.remark(format!(
                    "the account was not closed, its lease ends it: {}",
                    causes(&error)
                ));
                return None;
            }
            Err(_elapsed) => {
                report.remark("the account was not closed in time, its lease ends it".to_owned());
                return None;
            }
        }
    }
}

async fn seal(bastion: &mut Bastion, reason: CloseReason, report: &mut Report) {
    let Some(evidence) = bastion.evidence.take() else {
        return;
    };
    let head = evidence.head();
    report.head = Some(ChainHead {
        seq: head.seq,
        hash: hex(&head.hash),
    });
    match tokio::time::timeout(SEAL_LIMIT, evidence.seal(seal_reason(reason))).await {
        Ok(Ok(outcome)) => {
            report.head = Some(ChainHead {
                seq: outcome.head.seq,
                hash: hex(&outcome.head.hash),
            });
            report.sealed = outcome.shipped && outcome.anchored;
            if !report.sealed {
                report.remark("the seal was not both shipped and anchored".to_owned());
            }
        }
        Ok(Err(error)) => report.remark(format!("the chain was not sealed: {}", causes(&error))),
        Err(_elapsed) => report.remark("the chain was not sealed in time".to_owned()),
    }
}

fn seal_reason(reason: CloseReason) -> SealReason {
    match reason {
        CloseReason::Deadline => SealReason::Deadline,
        CloseReason::Finished => SealReason::Finished,
        CloseReason::EvidenceLost => SealReason::EvidenceLost,
        CloseReason::Redeemed | CloseReason::Intrusion => SealReason::Revoked,
        CloseReason::Failed | CloseReason::Shutdown => SealReason::Failed,
    }
}

/// What the operator reads on the terminal.
fn message(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Deadline => "The window is over. This session ends now.",
        CloseReason::Finished => "This grant was ended early. This session ends now.",
        CloseReason::EvidenceLost => "The record of this session cannot be kept. It ends now.",
        CloseReason::Redeemed | CloseReason::Intrusion => {
            "This bastion is not trusted any more. This session ends now."
        }
        CloseReason::Failed => "This bastion failed. This session ends now.",
        CloseReason::Shutdown => "This bastion is shutting down. This session ends now.",
    }
}

/// A hash as the ledger spells it.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Servers, tests as trial};
    use powerpole_protocol::secret::Secret;

    #[tokio::test]
    async fn a_reader_that_cannot_be_reached_is_no_success_and_keeps_nothing_from_being_done() {
        let _turn = trial::turn().await;
        let Some((target, mut owner)) = trial::server("POWERPOLE_TEST_MYSQL").await else {
            return;
        };
        let password = Secret::new("vN3pR8sW1xZ5bD7fH0jL2kM4".into());
        let ticket = trial::ticket(&mut owner).await;
        let readers = [trial::nowhere(&target)];
        let servers = Servers::trial(&target, &readers, None);
        let account = Account::open(&servers, trial::grantor(), &ticket, &password)
            .await
            .unwrap();
        let account = Arc::new(account);
        let mut bastion = Bastion {
            account: Some(Arc::clone(&account)),
            ..Bastion::default()
        };
        let mut report = Report::default();
        close_account(&mut bastion, &mut report).await;
        assert!(!report.account_gone);
        assert!(
            matches!(&report.remarks[..], [remark] if remark.contains(":1 may live on")),
            "{:?}",
            report.remarks
        );
        let closed = account.close().await.unwrap();
        assert_eq!(closed.reason, "asked", "the writer's part was done");
        let end = ReaderEnd {
            instance: "reader:3306".to_owned(),
            ended: Ok(2),
            took: Duration::from_millis(80),
        };
        let event = account_event(&account, Some(&closed), &[end]);
        assert_eq!(event["gone"], true);
        assert_eq!(
            event["readers"],
            json!([{"instance": "reader:3306", "gone": true, "connections_killed": 2, "why": null, "ms": 80}])
        );
    }
}
