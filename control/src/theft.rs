//! Signs that somebody else has had what was made for one bastion alone: which failures mean it, and what is said then.
//!
//! Whoever has had a handoff has had its ticket, and with the grantor's credential a ticket opens an account. Control
//! sees no database: what was done with a ticket is never known here, and never claimed.

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theft {
    /// The handoff was gone before its bastion could fetch it.
    HandoffGone,
    /// The handoff's token was presented a second time.
    RedeemedTwice,
    /// The database had seen the ticket before.
    TicketUsed,
}

impl Theft {
    /// What a failure of this code means, if it means one.
    ///
    /// Not among them: `account_exists`, an account of that name and address under another ticket, such as one that an
    /// earlier bastion with the same address left to its lease; `host_refused`, a server that resolves names.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        match code {
            "handoff_gone" => Some(Self::HandoffGone),
            "redeemed" => Some(Self::RedeemedTwice),
            "ticket_used" => Some(Self::TicketUsed),
            _ => None,
        }
    }

    /// The log's `alarm`.
    #[must_use]
    pub fn alarm(self) -> &'static str {
        match self {
            Self::HandoffGone => "handoff_gone",
            Self::RedeemedTwice => "redeemed_twice",
            Self::TicketUsed => "ticket_used",
        }
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::HandoffGone | Self::RedeemedTwice => {
                "Somebody else may have had this bastion's handoff, and may have opened an account with its ticket. Security was alarmed."
            }
            Self::TicketUsed => {
                "Somebody else may have opened an account with this request's ticket. Security was alarmed."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_ticket_alarms_and_what_has_innocent_causes_does_not() {
        for (code, alarm) in [
            ("ticket_used", "ticket_used"),
            ("handoff_gone", "handoff_gone"),
            ("redeemed", "redeemed_twice"),
        ] {
            let theft = Theft::of(code).unwrap();
            assert_eq!(theft.alarm(), alarm);
            assert!(theft.text().contains("may have opened an account"));
        }
        for code in [
            "account_exists",
            "host_refused",
            "ticket_refused",
            "patch_failed",
            "",
        ] {
            assert_eq!(Theft::of(code), None);
        }
    }
}
