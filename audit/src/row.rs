//! One request's row in the rolls: what they name of it, against its ledger item.
//!
//! The chain is compared with the item's heads, and the item with the rolls, which nobody can change: so a chain that is
//! VALID has the end that the roll names.

use crate::{
    error::CheckError,
    ledger::Item,
    place::Contradiction,
    rolls::Rolls,
    rolls_ledger::{Judged, SKEW_S, judge},
};
use powerpole_protocol::ledger::attribute;

/// What the rolls say of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Its number, where a roll names it.
    pub(crate) number: Option<u64>,
    /// Its outcome, where a roll names its end.
    pub(crate) outcome: Option<&'static str>,
    /// Where the last roll's period ends, unix seconds.
    pub(crate) until_s: u64,
    /// How long ago that was, in seconds, where it is too long ago.
    pub(crate) late_s: Option<u64>,
    /// What contradicts the rolls after they named its end.
    pub(crate) broken: Option<String>,
    /// What the item contradicts.
    pub(crate) contradictions: Vec<Contradiction>,
}

impl Row {
    /// Reads the request's row. Rolls that contradict each other before they name its end, or none, are nothing to
    /// compare with; what contradicts them later cannot change the end that they named.
    pub(crate) fn find(rolls: &Rolls, item: &Item, now_s: u64) -> Result<Row, CheckError> {
        if rolls.report.rolls == 0 {
            return Err(CheckError::Rolls("there is no roll".to_owned()));
        }
        let request = item.need(attribute::REQUEST)?;
        let number = rolls.numbers.get(&request).copied();
        let broken = rolls.findings.first().map(|first| {
            let (roll, rule) = (first.roll, first.rule);
            format!(
                "roll {roll} contradicts the ones before it ({rule}): `powerpole rolls` says more"
            )
        });
        if let Some(broken) = &broken
            && !number.is_some_and(|n| rolls.ended_soundly(n))
        {
            return Err(CheckError::Rolls(broken.clone()));
        }
        let findings = match judge(rolls, item, now_s) {
            Judged::Named(findings) => findings,
            Judged::Missed(finding) => vec![finding],
            Judged::Younger => Vec::new(),
        };
        let end = number.and_then(|n| rolls.end(n));
        Ok(Row {
            number,
            outcome: end.map(|end| end.outcome.word()),
            until_s: rolls.until_s(),
            late_s: rolls.late_s,
            broken,
            contradictions: findings
                .into_iter()
                .map(|finding| Contradiction {
                    code: "roll-differs",
                    detail: format!("{} ({})", finding.detail, finding.rule),
                })
                .collect(),
        })
    }

    /// What a chain that was sealed then, in microseconds, contradicts: a roll is written after whatever ended before it
    /// was noted, so the last one names the end of a chain that was sealed minutes before.
    pub(crate) fn lacks_end(&self, sealed_us: u64) -> Option<Contradiction> {
        let sealed_s = sealed_us / 1_000_000;
        let missed = self.outcome.is_none() && sealed_s.saturating_add(SKEW_S) < self.until_s;
        missed.then(|| Contradiction {
            code: "roll-differs",
            detail: format!(
                "the chain was sealed before the last roll, and none says that its request ended: somebody kept its end \
                 out of the ledger ({})",
                "roll-lacks-end"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_that_is_older_than_the_last_roll_needs_an_end_in_one() {
        let row = |outcome| Row {
            outcome,
            until_s: 86_400,
            ..Row::default()
        };
        let code = |row: Row, sealed_s: u64| row.lacks_end(sealed_s * 1_000_000).map(|c| c.code);
        assert_eq!(code(row(None), 86_400 - 301), Some("roll-differs"));
        assert_eq!(code(row(None), 86_400 - 300), None);
        assert_eq!(code(row(Some("CLOSED")), 7), None);
    }
}
