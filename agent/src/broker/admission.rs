//! Who may log in: a pure decision over what the kernel and amazon-ssm-agent's files say.

use super::peer::{SessionState, Worker};
use std::path::PathBuf;

/// What the broker knows of a peer. A fact that could not be learned is `None` and admits nobody.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Its uid, as the kernel says.
    pub(crate) uid: u32,
    /// Whether the process that answered the challenge is the one that was read.
    pub(crate) same_process: bool,
    /// Whether both descriptors that it handed over are terminals.
    pub(crate) terminals: bool,
    /// Its parent.
    pub(crate) worker: Option<Worker>,
    /// The SSM session behind the parent.
    pub(crate) state: Option<SessionState>,
}

/// Who is expected.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// uid of the shim.
    pub(crate) ssm_uid: u32,
    /// amazon-ssm-agent's session worker.
    pub(crate) worker: PathBuf,
    /// ARN of the one principal that the grant names.
    pub(crate) principal: String,
}

/// The answer to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// Let in, for this SSM session.
    Admit {
        /// The session's id.
        ssm_session: String,
        /// Its owner, the grant's principal.
        owner: String,
    },
    /// Turned away.
    Refuse(Refusal),
}

/// Why a login is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Logins have not begun.
    NotYet,
    /// Logins are over.
    Closed,
    /// As many sessions are open as may be.
    TooMany,
    /// Evidence is not being taken.
    NoEvidence,
    /// The peer broke the socket's protocol.
    Protocol,
    /// It runs under another uid than the shim.
    WrongUser(u32),
    /// Its pid changed hands while it was looked at.
    ChangedProcess,
    /// It was not started by the session worker.
    NotFromSsm,
    /// There is no state of the session that the worker names.
    UnknownSession,
    /// The SSM session belongs to somebody else.
    OtherPerson {
        /// Its owner.
        owner: String,
    },
    /// It has no terminal.
    NoTerminal,
    /// The session could not be set up on our side.
    Broken(String),
}

impl Refusal {
    /// A stable name, for the record and the log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::Closed => "closed",
            Self::TooMany => "too_many",
            Self::NoEvidence => "no_evidence",
            Self::Protocol => "protocol",
            Self::WrongUser(_) => "wrong_user",
            Self::ChangedProcess => "changed_process",
            Self::NotFromSsm => "not_from_ssm",
            Self::UnknownSession => "unknown_session",
            Self::OtherPerson { .. } => "other_person",
            Self::NoTerminal => "no_terminal",
            Self::Broken(_) => "broken",
        }
    }

    /// What the person at the terminal reads.
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::NotYet => "This bastion is not ready yet. Try again in a few seconds.",
            Self::Closed => "This bastion takes no logins any more.",
            Self::TooMany => "Too many sessions are open on this bastion. Close one and try again.",
            Self::NoEvidence => {
                "Sessions cannot be recorded at the moment, so none can begin. Try again soon."
            }
            Self::Protocol | Self::WrongUser(_) | Self::ChangedProcess | Self::NotFromSsm => {
                "Logins come through AWS Systems Manager only. This attempt was recorded."
            }
            Self::UnknownSession => {
                "This session is not known to amazon-ssm-agent. The attempt was recorded; start a new session."
            }
            Self::OtherPerson { .. } => {
                "This bastion was granted to somebody else. Your attempt was recorded. Request your own with /powerpole."
            }
            Self::NoTerminal => {
                "This bastion serves interactive sessions only. The attempt was recorded."
            }
            Self::Broken(_) => {
                "The session could not be started. The attempt was recorded; try again."
            }
        }
    }

    /// Whether somebody has to look at this.
    pub(crate) fn is_alarming(&self) -> bool {
        match self {
            Self::OtherPerson { .. }
            | Self::WrongUser(_)
            | Self::ChangedProcess
            | Self::NotFromSsm
            | Self::UnknownSession
            | Self::Protocol => true,
            Self::NotYet
            | Self::Closed
            | Self::TooMany
            | Self::NoEvidence
            | Self::NoTerminal
            | Self::Broken(_) => false,
        }
    }
}

/// Decides on a login.
pub(crate) fn decide(facts: &Facts, rule: &Rule) -> Admission {
    match check(facts, rule) {
        Ok((ssm_session, owner)) => Admission::Admit { ssm_session, owner },
        Err(refusal) => Admission::Refuse(refusal),
    }
}

fn check(facts: &Facts, rule: &Rule) -> Result<(String, String), Refusal> {
    if facts.uid != rule.ssm_uid {
        return Err(Refusal::WrongUser(facts.uid));
    }
    if !facts.same_process {
        return Err(Refusal::ChangedProcess);
    }
    let worker = facts.worker.as_ref().ok_or(Refusal::NotFromSsm)?;
    if worker.uid != 0 || worker.program != rule.worker {
        return Err(Refusal::NotFromSsm);
    }
    let id = worker.argument.as_deref().ok_or(Refusal::NotFromSsm)?;
    let state = facts.state.as_ref().ok_or(Refusal::UnknownSession)?;
    if state.session_id != id || state.document_type != "StartSession" || state.owner.is_empty() {
        return Err(Refusal::UnknownSession);
    }
    if state.owner != rule.principal {
        return Err(Refusal::OtherPerson {
            owner: state.owner.clone(),
        });
    }
    if !facts.terminals {
        return Err(Refusal::NoTerminal);
    }
    Ok((state.session_id.clone(), state.owner.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "arn:aws:sts::1:assumed-role/PowerPoleOperator/alice@example.com";

    fn rule() -> Rule {
        Rule {
            ssm_uid: 1001,
            worker: "/usr/bin/ssm-session-worker".into(),
            principal: ALICE.to_owned(),
        }
    }

    fn facts() -> Facts {
        Facts {
            uid: 1001,
            same_process: true,
            terminals: true,
            worker: Some(Worker {
                pid: 77,
                uid: 0,
                program: "/usr/bin/ssm-session-worker".into(),
                argument: Some("alice-1".to_owned()),
            }),
            state: Some(SessionState {
                document_type: "StartSession".to_owned(),
                session_id: "alice-1".to_owned(),
                owner: ALICE.to_owned(),
                document: "SSM-SessionManagerRunShell".to_owned(),
                plugin: "Standard_Stream".to_owned(),
            }),
        }
    }

    #[test]
    fn the_grants_person_is_admitted() {
        let expected = Admission::Admit {
            ssm_session: "alice-1".to_owned(),
            owner: ALICE.to_owned(),
        };
        assert_eq!(decide(&facts(), &rule()), expected);
    }

    #[test]
    fn any_single_fact_that_is_wrong_or_missing_refuses() {
        type Change = fn(&mut Facts);
        let cases: [(Change, &str); 12] = [
            (|f| f.uid = 0, "wrong_user"),
            (|f| f.uid = 1002, "wrong_user"),
            (|f| f.same_process = false, "changed_process"),
            (|f| f.terminals = false, "no_terminal"),
            (|f| f.worker = None, "not_from_ssm"),
            (|f| f.worker.as_mut().unwrap().uid = 1001, "not_from_ssm"),
            (
                |f| f.worker.as_mut().unwrap().program = "/tmp/ssm-session-worker".into(),
                "not_from_ssm",
            ),
            (
                |f| f.worker.as_mut().unwrap().argument = None,
                "not_from_ssm",
            ),
            (
                |f| f.worker.as_mut().unwrap().argument = Some("bob-1".to_owned()),
                "unknown_session",
            ),
            (|f| f.state = None, "unknown_session"),
            (
                |f| f.state.as_mut().unwrap().document_type = "SendCommand".to_owned(),
                "unknown_session",
            ),
            (
                |f| f.state.as_mut().unwrap().owner.push('x'),
                "other_person",
            ),
        ];
        for (change, code) in cases {
            let mut facts = facts();
            change(&mut facts);
            match decide(&facts, &rule()) {
                Admission::Refuse(refusal) => assert_eq!(refusal.code(), code),
                Admission::Admit { .. } => panic!("admitted: {facts:?}"),
            }
        }
    }

    #[test]
    fn an_empty_principal_admits_nobody() {
        let mut facts = facts();
        facts.state.as_mut().unwrap().owner.clear();
        let rule = Rule {
            principal: String::new(),
            ..rule()
        };
        assert_eq!(
            decide(&facts, &rule),
            Admission::Refuse(Refusal::UnknownSession)
        );
    }
}
