//! Seals of what was asked and approved, of each try and of its bastion: MACs that the ledger keeps and cannot make.
//!
//! Whoever may write the ledger could otherwise write an approval, or a try of one. Owns the bytes under each seal; trusts the key, which
//! control derives from `derivation.key`. Never: says what follows from a broken seal ([`crate::approval`] does).
//!
//! ```text
//! key   HMAC-SHA256(derivation key, "powerpole/v1/ledger-seals" ‖ 00)
//! seal  64 hexadecimal digits of HMAC-SHA256(key, field*)
//! field length u32 big-endian ‖ bytes; times and addresses as text, numbers as 8 bytes big-endian
//! asked     "powerpole/seal/1/asked", ASKED
//! approved  "powerpole/seal/1/approved", ASKED, approver, approver's Slack id, approved_at
//! try       "powerpole/seal/1/try", request, the approval's seal as text, attempt, handoff, image,
//!           count of subnets, subnet*, launched_at, launch_ahead_s
//! bastion   "powerpole/seal/1/bastion", request, the try's seal as text, instance, bastion's key as text
//! ASKED     request, number, requested_at, operator, operator's Slack id, account, principal, cluster, level,
//!           count of schemas, schema*, duration_s, start_at (a field of no bytes when there is none), reason
//! ```
//! A try's seal says nothing unless the approval's holds, and a bastion's nothing unless the try's does.

use crate::keys::hmac;
use crate::ledger::item::Item;
use ::hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use powerpole_protocol::id::{Attempt, Email, InstanceId};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Makes and checks seals.
pub struct SealKey(Zeroizing<[u8; 32]>);

/// Who approved, and when.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// Their address.
    pub approver: &'a Email,
    /// Their Slack user id.
    pub slack: &'a str,
    /// When, in whole seconds.
    pub at: Timestamp,
}

/// What is fixed when a try begins, before anything of it exists.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    /// The try, from 1.
    pub attempt: Attempt,
    /// Its handoff's name.
    pub handoff: &'a str,
    /// Its image.
    pub image: &'a str,
    /// The subnets of all tries up to this one, its own last: EC2 keeps a client token's promise within one zone alone.
    pub subnets: &'a [String],
    /// When it began, in whole seconds.
    pub at: Timestamp,
    /// So many seconds before the wanted start it was allowed to begin.
    pub ahead_s: u64,
}

impl SealKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Seals what was asked, under the number that the ledger gives it.
    #[must_use]
    pub fn asked(&self, item: &Item) -> String {
        spell(self.over_asked(item))
    }

    /// Seals an approval of this very request.
    #[must_use]
    pub fn approved(&self, item: &Item, decision: Decision<'_>) -> String {
        spell(self.over_approved(item, decision))
    }

    /// Seals a try of this approved request.
    #[must_use]
    pub fn tried(&self, item: &Item, begun: Begun<'_>) -> String {
        spell(self.over_try(item, begun))
    }

    /// Seals which instance redeemed this try's handoff, and its key.
    #[must_use]
    pub fn bastion(&self, item: &Item, instance: &InstanceId, key: &str) -> String {
        spell(self.over_bastion(item, instance, key))
    }

    /// Whether an item says what control wrote when it was asked.
    #[must_use]
    pub fn holds_asked(&self, item: &Item) -> bool {
        fits(self.over_asked(item), item.asked_seal.as_deref())
    }

    /// Whether an item says what an approver approved through control.
    #[must_use]
    pub fn holds_approved(&self, item: &Item) -> bool {
        let (Some(approver), Some(slack), Some(at)) =
            (&item.approver, &item.approver_slack, item.approved_at)
        else {
            return false;
        };
        let decision = Decision {
            approver,
            slack,
            at,
        };
        fits(
            self.over_approved(item, decision),
            item.approval_seal.as_deref(),
        )
    }

    /// Whether an item says what control wrote when it began the current try; see [`SealKey::holds_approved`], too.
    #[must_use]
    pub fn holds_try(&self, item: &Item) -> bool {
        begun(item).is_some_and(|begun| fits(self.over_try(item, begun), item.try_seal.as_deref()))
    }

    /// Whether the current try's handoff was redeemed by the instance and key that an item names; see
    /// [`SealKey::holds_try`], too.
    #[must_use]
    pub fn holds_bastion(&self, item: &Item) -> bool {
        let (Some(instance), Some(key)) = (&item.instance, &item.bastion_key) else {
            return false;
        };
        fits(
            self.over_bastion(item, instance, key),
            item.bastion_seal.as_deref(),
        )
    }

    fn over_asked(&self, item: &Item) -> Hmac<Sha256> {
        let mut mac = hmac(&self.0);
        field(&mut mac, b"powerpole/seal/1/asked");
        asked(&mut mac, item);
        mac
    }

    fn over_approved(&self, item: &Item, decision: Decision<'_>) -> Hmac<Sha256> {
        let mut mac = hmac(&self.0);
        field(&mut mac, b"powerpole/seal/1/approved");
        asked(&mut mac, item);
        field(&mut mac, decision.approver.as_str().as_bytes());
        field(&mut mac, decision.slack.as_bytes());
        field(&mut mac, decision.at.to_string().as_bytes());
        mac
    }

    fn over_try(&self, item: &Item, begun: Begun<'_>) -> Hmac<Sha256> {
        let mut mac = hmac(&self.0);
        field(&mut mac, b"powerpole/seal/1/try");
        field(&mut mac, item.request.as_str().as_bytes());
        field(&mut mac, bytes(&item.approval_seal));
        field(&mut mac, &u64::from(begun.attempt.0).to_be_bytes());
        field(&mut mac, begun.handoff.as_bytes());
        field(&mut mac, begun.image.as_bytes());
        field(&mut mac, &(begun.subnets.len() as u64).to_be_bytes());
        for subnet in begun.subnets {
            field(&mut mac, subnet.as_bytes());
        }
        field(&mut mac, begun.at.to_string().as_bytes());
        field(&mut mac, &begun.ahead_s.to_be_bytes());
        mac
    }

    fn over_bastion(&self, item: &Item, instance: &InstanceId, key: &str) -> Hmac<Sha256> {
        let mut mac = hmac(&self.0);
        field(&mut mac, b"powerpole/seal/1/bastion");
        field(&mut mac, item.request.as_str().as_bytes());
        field(&mut mac, bytes(&item.try_seal));
        field(&mut mac, instance.as_str().as_bytes());
        field(&mut mac, key.as_bytes());
        mac
    }
}

/// What an item says of its current try; none when it says nothing, or not all.
#[must_use]
pub fn begun(item: &Item) -> Option<Begun<'_>> {
    let tries = usize::try_from(item.attempt.0).ok()?;
    Some(Begun {
        attempt: Some(item.attempt).filter(|attempt| attempt.0 > 0)?,
        handoff: item.handoff.as_deref()?,
        image: item.image.as_deref()?,
        subnets: Some(item.subnets.as_slice()).filter(|all| all.len() == tries)?,
        at: item.launched_at?,
        ahead_s: item.launch_ahead_s?,
    })
}

fn bytes(seal: &Option<String>) -> &[u8] {
    seal.as_deref().unwrap_or_default().as_bytes()
}

fn asked(mac: &mut Hmac<Sha256>, item: &Item) {
    field(mac, item.request.as_str().as_bytes());
    field(mac, &item.number.to_be_bytes());
    field(mac, item.requested_at.to_string().as_bytes());
    field(mac, item.operator.as_str().as_bytes());
    field(mac, item.operator_slack.as_bytes());
    field(mac, item.account.as_str().as_bytes());
    field(mac, item.principal.as_bytes());
    field(mac, item.cluster.as_str().as_bytes());
    field(mac, item.level.as_str().as_bytes());
    field(mac, &(item.schemas.len() as u64).to_be_bytes());
    for schema in &item.schemas {
        field(mac, schema.as_str().as_bytes());
    }
    field(mac, &item.duration_s.to_be_bytes());
    let start = item.start_at.map(|at| at.to_string()).unwrap_or_default();
    field(mac, start.as_bytes());
    field(mac, item.reason.as_bytes());
}

// Nothing that DynamoDB holds (400 KB an item) is longer than a u32 can say.
fn field(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    mac.update(bytes);
}

fn spell(mac: Hmac<Sha256>) -> String {
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

// In constant time: a seal that is there must not be told digit by digit.
fn fits(mac: Hmac<Sha256>, seal: Option<&str>) -> bool {
    seal.and_then(|text| data_encoding::HEXLOWER.decode(text.as_bytes()).ok())
        .is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::after;
    use crate::request::tests::{item, now};
    use powerpole_protocol::id::{AccountName, ClusterId, RequestId, SchemaName};
    use powerpole_protocol::level::AccessLevel;

    pub(crate) fn key() -> SealKey {
        SealKey::new([5; 32])
    }

    fn approved() -> Item {
        let mut item = item("alice@example.com", 1);
        item.number = 7;
        item.approver = Email::parse("bob@example.com").ok();
        item.approver_slack = Some("U0BOB".into());
        item.approved_at = Some(now());
        let bob = Email::parse("bob@example.com").unwrap();
        item.asked_seal = Some(key().asked(&item));
        item.approval_seal = Some(key().approved(
            &item,
            Decision {
                approver: &bob,
                slack: "U0BOB",
                at: now(),
            },
        ));
        item
    }

    /// A try of it, and the bastion that redeemed its handoff.
    fn tried() -> Item {
        let mut item = approved();
        item.attempt = Attempt(1);
        item.handoff = Some("powerpole/handoff/0011".into());
        item.image = Some("ami-0123456789abcdef0".into());
        item.subnets = vec!["subnet-0123456789abcdef0".into()];
        item.launch_ahead_s = Some(600);
        item.launched_at = Some(now());
        item.try_seal = begun(&item).map(|begun| key().tried(&item, begun));
        let instance = InstanceId::parse("i-0123456789abcdef0").unwrap();
        item.bastion_seal = Some(key().bastion(&item, &instance, "key"));
        item.instance = Some(instance);
        item.bastion_key = Some("key".into());
        item
    }

    #[test]
    fn every_fact_of_a_try_and_of_its_bastion_breaks_its_seal_when_it_changes() {
        type Change = fn(&mut Item);
        let of_try: [Change; 16] = [
            |i| i.request = RequestId::from_parts(9, [9; 10]),
            |i| i.approval_seal = i.asked_seal.clone(),
            |i| i.approval_seal = None,
            |i| i.attempt = Attempt(2),
            |i| i.attempt = Attempt(0),
            |i| i.handoff = Some("powerpole/handoff/0012".into()),
            |i| i.handoff = None,
            |i| i.image = Some("ami-1".into()),
            |i| i.image = None,
            |i| i.launched_at = Some(after(now(), 1)),
            |i| i.launched_at = None,
            |i| i.subnets = vec!["subnet-1".into()],
            |i| i.subnets.clear(),
            |i| i.subnets.push("subnet-1".into()),
            |i| i.launch_ahead_s = Some(601),
            |i| i.launch_ahead_s = None,
        ];
        let of_bastion: [Change; 5] = [
            |i| i.instance = InstanceId::parse("i-00000000000000001").ok(),
            |i| i.instance = None,
            |i| i.bastion_key = Some("another".into()),
            |i| i.bastion_key = None,
            |i| i.bastion_seal = i.try_seal.clone(),
        ];
        let good = tried();
        assert!(key().holds_approved(&good) && key().holds_try(&good));
        assert!(key().holds_bastion(&good));
        for (place, change) in of_try.into_iter().enumerate() {
            let mut item = good.clone();
            change(&mut item);
            assert!(!key().holds_try(&item), "{place}");
        }
        for (place, change) in of_bastion.into_iter().enumerate() {
            let mut item = good.clone();
            change(&mut item);
            assert!(
                key().holds_try(&item) && !key().holds_bastion(&item),
                "{place}"
            );
        }
        // One seal is no other.
        let swapped = Item {
            try_seal: good.approval_seal.clone(),
            ..good.clone()
        };
        assert!(!key().holds_try(&swapped) && !key().holds_bastion(&swapped));
        assert!(!SealKey::new([6; 32]).holds_try(&good));
    }

    #[test]
    fn every_fact_that_was_asked_or_approved_breaks_its_seal_when_it_changes() {
        type Change = fn(&mut Item);
        let asked: [Change; 14] = [
            |i| i.request = RequestId::from_parts(9, [9; 10]),
            |i| i.number += 1,
            |i| i.requested_at = after(now(), 1),
            |i| i.operator = Email::parse("mallory@example.com").unwrap(),
            |i| i.operator_slack = "U0MALLORY".into(),
            |i| i.account = AccountName::parse("mallory").unwrap(),
            |i| i.principal.push('x'),
            |i| i.cluster = ClusterId::parse("billing-prod").unwrap(),
            |i| i.level = AccessLevel::Admin,
            |i| i.schemas.push(SchemaName::parse("billing").unwrap()),
            |i| i.schemas.clear(),
            |i| i.duration_s += 1,
            |i| i.start_at = Some(now()),
            |i| i.reason.push('x'),
        ];
        let decided: [Change; 6] = [
            |i| i.approver = Email::parse("carol@example.com").ok(),
            |i| i.approver = None,
            |i| i.approver_slack = Some("U0CAROL".into()),
            |i| i.approved_at = Some(after(now(), 1)),
            |i| i.approved_at = None,
            |i| i.approval_seal = i.asked_seal.clone(),
        ];
        let good = approved();
        assert!(key().holds_asked(&good) && key().holds_approved(&good));
        for (place, change) in asked.into_iter().enumerate() {
            let mut item = good.clone();
            change(&mut item);
            assert!(!key().holds_asked(&item), "{place}");
            assert!(!key().holds_approved(&item), "{place}");
        }
        for (place, change) in decided.into_iter().enumerate() {
            let mut item = good.clone();
            change(&mut item);
            assert!(key().holds_asked(&item), "{place}");
            assert!(!key().holds_approved(&item), "{place}");
        }
    }

    #[test]
    fn no_byte_moves_from_one_field_to_its_neighbour() {
        let mut item = approved();
        let (principal, cluster) = (item.principal.clone(), item.cluster.clone());
        item.principal = format!("{principal}{}", &cluster.as_str()[..1]);
        item.cluster = ClusterId::parse(&cluster.as_str()[1..]).unwrap();
        assert!(!key().holds_asked(&item));
        let mut item = approved();
        item.schemas = vec![
            SchemaName::parse("a").unwrap(),
            SchemaName::parse("b").unwrap(),
        ];
        let two = key().asked(&item);
        item.schemas = vec![SchemaName::parse("ab").unwrap()];
        assert_ne!(key().asked(&item), two);
    }

    #[test]
    fn no_seal_a_short_one_and_one_of_another_key_do_not_hold() {
        let good = approved();
        assert!(!SealKey::new([6; 32]).holds_approved(&good));
        let whole = good.approval_seal.clone().unwrap();
        for seal in [None, Some(""), Some("zz"), whole.get(..32), whole.get(..62)] {
            let item = Item {
                approval_seal: seal.map(str::to_owned),
                asked_seal: seal.map(str::to_owned),
                ..good.clone()
            };
            assert!(!key().holds_approved(&item) && !key().holds_asked(&item));
            let item = Item {
                try_seal: seal.map(str::to_owned),
                bastion_seal: seal.map(str::to_owned),
                ..tried()
            };
            assert!(!key().holds_try(&item) && !key().holds_bastion(&item));
        }
    }

    #[test]
    fn seals_are_what_they_were() {
        // A changed seal would make every open request of an older version one that was tampered with.
        let item = approved();
        assert_eq!(item.asked_seal.as_deref(), Some(ASKED));
        assert_eq!(item.approval_seal.as_deref(), Some(APPROVED));
        let item = tried();
        assert_eq!(item.try_seal.as_deref(), Some(TRIED));
        assert_eq!(item.bastion_seal.as_deref(), Some(BASTION));
    }
    // Made from the layout above by another program.
    const ASKED: &str = "bba090fd49df1168a3a1d57cc97d73f092212c16e840a20ae8fd719368ebdedf";
    const APPROVED: &str = "24d27d5028327acad13f306e07e30d898538c0002fea4315f3a13b6ef0687a4b";
    const TRIED: &str = "51ca27104e773dee6e3461e46cc75c23b85bb88bfdd74fa0a4b62fb80482b54b";
    const BASTION: &str = "908ecb6a9b87e5ba4fad8c604266ef233a79231540649518a4203169b6acefac";
}
