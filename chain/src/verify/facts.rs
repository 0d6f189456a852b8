//! What the verifier compares the chain with: anchors, the ledger's facts, redaction manifests.

use crate::{
    anchor::{Anchor, AnchorKind},
    digest::Hash,
    genesis::Genesis,
    redaction::Redaction,
};

use super::report::{Finding, Known, Rule};

/// What the ledger says about a request. Everything that is given is compared; without [`LedgerFacts::approves`] no
/// verdict is VALID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerFacts {
    /// Request id.
    pub request: Option<String>,
    /// Launch attempt.
    pub attempt: Option<u32>,
    /// The operator's email address.
    pub operator: Option<String>,
    /// The operator's AWS principal.
    pub principal: Option<String>,
    /// The approver's email address.
    pub approver: Option<String>,
    /// When it was approved.
    pub approved_at: Option<String>,
    /// Why the operator asked.
    pub reason: Option<String>,
    /// Cluster.
    pub cluster: Option<String>,
    /// Level.
    pub level: Option<String>,
    /// Schemas, in any order.
    pub schemas: Option<Vec<String>>,
    /// The account's user name, without its host.
    pub account: Option<String>,
    /// Instance.
    pub instance: Option<String>,
    /// Log group.
    pub log_group: Option<String>,
    /// Log stream.
    pub log_stream: Option<String>,
    /// h_0.
    pub genesis_head: Option<Hash>,
    /// Latest head that a heartbeat brought.
    pub latest: Option<(u64, Hash)>,
    /// Final head that the bastion reported.
    pub last: Option<(u64, Hash)>,
    /// Whether the ledger says that the chain was sealed.
    pub sealed: Option<bool>,
}

impl LedgerFacts {
    /// Whether it says who asked for what, and who approved it when. A chain's own word for that is its bastion's.
    pub fn approves(&self) -> bool {
        [
            &self.request,
            &self.operator,
            &self.level,
            &self.approver,
            &self.approved_at,
        ]
        .iter()
        .all(|fact| fact.is_some())
    }
}

/// All that is known besides the lines.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The ledger's facts, if the auditor has them.
    pub ledger: Option<LedgerFacts>,
    /// The anchors that the auditor fetched, first versions only; `None` when none were asked for.
    pub anchors: Option<Vec<Anchor>>,
    /// Manifests whose signature was checked.
    pub redactions: Vec<Redaction>,
    /// Public keys of redactors that the auditor trusts.
    pub redactors: Vec<[u8; 32]>,
}

/// Where a head was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownHead {
    pub(super) seq: u64,
    pub(super) head: Hash,
    pub(super) source: Known,
}

/// Heads that anchors name. Most lines are told apart from them by one bit.
pub(super) struct Anchored {
    heads: Vec<Hash>,
    bits: [u64; 256],
}

impl Anchored {
    pub(super) fn new(known: &[KnownHead]) -> Anchored {
        let anchors = known.iter().filter(|known| known.source.is_anchor());
        let mut heads: Vec<Hash> = anchors.map(|known| known.head).collect();
        heads.sort_unstable();
        let mut bits = [0; 256];
        for head in &heads {
            let (word, bit) = Anchored::bit(head);
            if let Some(word) = bits.get_mut(word) {
                *word |= bit;
            }
        }
        Anchored { heads, bits }
    }

    #[inline]
    pub(super) fn holds(&self, head: &Hash) -> bool {
        let (word, bit) = Anchored::bit(head);
        let maybe = self.bits.get(word).is_some_and(|word| word & bit != 0);
        maybe && self.heads.binary_search(head).is_ok()
    }

    fn bit([word, bit, ..]: &Hash) -> (usize, u64) {
        (usize::from(*word), 1 << (bit & 63))
    }
}

impl Inputs {
    /// Whether the auditor has the ledger's word for the approval.
    pub(super) fn approved(&self) -> bool {
        self.ledger.as_ref().is_some_and(LedgerFacts::approves)
    }

    /// Every head that somebody outside the stream knows, by number.
    pub(super) fn heads(&self) -> Vec<KnownHead> {
        let mut heads = Vec::new();
        for anchor in self.anchors.iter().flatten() {
            let source = match anchor.kind {
                AnchorKind::Genesis => Known::GenesisAnchor,
                AnchorKind::Head => Known::HeadAnchor,
                AnchorKind::Seal => Known::SealAnchor,
            };
            heads.push(KnownHead {
                seq: anchor.seq,
                head: anchor.head,
                source,
            });
        }
        if let Some(ledger) = &self.ledger {
            let named = [
                (
                    ledger.genesis_head.map(|head| (0, head)),
                    Known::LedgerGenesis,
                ),
                (ledger.latest, Known::LedgerLatest),
                (ledger.last, Known::LedgerFinal),
            ];
            for (head, source) in named {
                if let Some((seq, head)) = head {
                    heads.push(KnownHead { seq, head, source });
                }
            }
        }
        heads.sort_by_key(|known| (known.seq, known.source));
        heads
    }

    /// The head of the genesis to look for: the anchor's before the ledger's.
    pub(super) fn genesis_head(&self) -> Option<Hash> {
        self.heads()
            .iter()
            .find(|known| known.seq == 0)
            .map(|known| known.head)
    }

    /// The request and stream that the genesis should name.
    pub(super) fn names(&self) -> (Option<&str>, Option<&str>) {
        let anchor = self.anchors.iter().flatten().next();
        let ledger = self.ledger.as_ref();
        let request = ledger
            .and_then(|l| l.request.as_deref())
            .or_else(|| anchor.map(|a| a.request.as_str()));
        let stream = ledger
            .and_then(|l| l.log_stream.as_deref())
            .or_else(|| anchor.map(|a| a.stream.as_str()));
        (request, stream)
    }

    /// Contradictions among the things outside the stream.
    pub(super) fn contradictions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let heads = self.heads();
        for (one, two) in heads.iter().zip(heads.iter().skip(1)) {
            if one.seq == two.seq && one.head != two.head {
                findings.push(Finding::new(
                    Rule::KnownHeadsDiffer,
                    one.seq,
                    format!(
                        "{} and {} name different heads",
                        one.source.word(),
                        two.source.word()
                    ),
                ));
            }
        }
        let (request, stream) = self.names();
        for anchor in self.anchors.iter().flatten() {
            if request.is_some_and(|r| r != anchor.request)
                || stream.is_some_and(|s| s != anchor.stream)
            {
                findings.push(Finding::new(
                    Rule::AnchorIdentity,
                    anchor.seq,
                    format!("an anchor is of {} in {}", anchor.request, anchor.stream),
                ));
                break;
            }
        }
        findings
    }

    /// What the genesis says otherwise than ledger and anchors.
    pub(super) fn compare(&self, genesis: &Genesis) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(ledger) = &self.ledger {
            let texts = [
                ("request", &ledger.request, &genesis.request),
                ("operator", &ledger.operator, &genesis.operator),
                ("principal", &ledger.principal, &genesis.principal),
                ("approver", &ledger.approver, &genesis.approver),
                ("approved_at", &ledger.approved_at, &genesis.approved_at),
                ("reason", &ledger.reason, &genesis.reason),
                ("cluster", &ledger.cluster, &genesis.cluster),
                ("level", &ledger.level, &genesis.level),
                ("instance", &ledger.instance, &genesis.instance),
                ("log_group", &ledger.log_group, &genesis.log_group),
                ("log_stream", &ledger.log_stream, &genesis.log_stream),
            ];
            for (name, told, own) in texts {
                if told.as_ref().is_some_and(|told| told != own) {
                    findings.push(differs(name));
                }
            }
            if ledger
                .attempt
                .is_some_and(|attempt| attempt != genesis.attempt)
            {
                findings.push(differs("attempt"));
            }
            let user = ledger.account.as_ref().map(|user| format!("'{user}'@'"));
            if user.is_some_and(|user| !genesis.account.starts_with(&user)) {
                findings.push(differs("account"));
            }
            if let Some(schemas) = &ledger.schemas {
                let sorted = |list: &[String]| {
                    let mut list = list.to_vec();
                    list.sort();
                    list
                };
                if sorted(schemas) != sorted(&genesis.schemas) {
                    findings.push(differs("schemas"));
                }
            }
        }
        for anchor in self.anchors.iter().flatten() {
            if anchor.request != genesis.request
                || anchor.stream != genesis.log_stream
                || anchor.instance != genesis.instance
            {
                findings.push(Finding::new(
                    Rule::AnchorIdentity,
                    anchor.seq,
                    "an anchor names another request, stream or instance".to_owned(),
                ));
                break;
            }
        }
        findings
    }

    /// True when a trusted redactor signed that this record of this chain is withheld.
    pub(super) fn is_authorised(&self, genesis: &Hash, seq: u64) -> bool {
        self.redactions.iter().any(|manifest| {
            manifest.genesis == *genesis
                && self.redactors.contains(&manifest.key)
                && manifest.records.binary_search(&seq).is_ok()
        })
    }
}

fn differs(name: &str) -> Finding {
    Finding::new(
        Rule::LedgerDiffers,
        0,
        format!("ledger and genesis differ in {name}"),
    )
}
