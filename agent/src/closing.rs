//! The end of a bastion: no new logins, sessions ended, account gone, chain sealed, control told.
//!
//! Every part is bounded in time, and one that fails leaves a remark and does not keep the next from being
//! done: the database's own event closes an account that we could not, and systemd powers off in any case.

use crate::boot::{Bastion, Machine};
use crate::clock;
use crate::control::persist;
use crate::failure::causes;
use crate::ssm;
use powerpole_chain::SealReason;
use powerpole_protocol::callback::{ChainHead, CloseReason, Closed};
use std::time::Duration;

/// Longest time for ending sessions.
const SESSIONS_LIMIT: Duration = Duration::from_secs(15);
/// Longest time for closing the account; the database's own event goes on with it, its lease of 180 s at the latest.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two tries to close the account.
const ACCOUNT_PAUSE: Duration = Duration::from_secs(2);
/// Longest time for sealing, shipping and anchoring.
const SEAL_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for telling control.
const CLOSED_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for [`close`]: more than its parts may take together (amazon-ssm-agent 10 s, the recorder's endpoint
/// 3 s, and the limits above), so that it ends one that has no bound of its own.
pub(crate) const LIMIT: Duration = Duration::from_secs(85);
/// What systemd's timer allows after the deadline: [`LIMIT`], [`CLOSED_LIMIT`] and a little more.
pub(crate) const GRACE: Duration = Duration::from_secs(120);

/// What the end left behind.
#[derive(Debug, Default)]
pub(crate) struct Report {
    head: Option<ChainHead>,
    sealed: bool,
    account_gone: bool,
    sessions: u32,
    refused: u32,
    statements: u64,
    remarks: Vec<String>,
}

impl Report {
    /// What is left of an end that took longer than [`LIMIT`].
    pub(crate) fn broken_off() -> Self {
        let mut report = Self::default();
        report.remark(format!("closing did not end within {} s", LIMIT.as_secs()));
        report
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
    if let Some(broker) = &bastion.broker {
        broker.refuse_new();
    }
    // Stopped first, so that no session starts between the broker's last look and the power-off.
    if bastion.broker.is_some()
        && let Err(error) = ssm::stop(&machine.config).await
    {
        report.remark(format!("amazon-ssm-agent was not stopped: {error}"));
    }
    if let Some(broker) = bastion.broker.take() {
        match tokio::time::timeout(SESSIONS_LIMIT, broker.end_all(message(reason))).await {
            Ok(0) => {}
            Ok(left) => report.remark(format!("{left} sessions did not end")),
            Err(_elapsed) => report.remark("sessions did not end in time".to_owned()),
        }
        let counts = broker.counts();
        (report.sessions, report.refused) = (counts.admitted, counts.refused);
    }
    if let Some(sql) = bastion.sql.take() {
        report.statements = sql.statements();
        sql.stop().await;
    }
}

async fn close_account(bastion: &mut Bastion, report: &mut Report) {
    let Some(account) = bastion.account.take() else {
        // Nothing was opened, so nothing is left.
        report.account_gone = true;
        return;
    };
    let start = clock::boottime();
    loop {
        let left = ACCOUNT_LIMIT.saturating_sub(clock::boottime().since(start));
        match tokio::time::timeout(left, account.close()).await {
            Ok(Ok(closed)) => {
                tracing::info!(
                    connections_killed = closed.connections_killed,
                    "the account is gone"
                );
                report.account_gone = true;
                return;
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
                return;
            }
            Err(_elapsed) => {
                report.remark("the account was not closed in time, its lease ends it".to_owned());
                return;
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
