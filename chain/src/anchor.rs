//! What a bastion puts into the object-locked bucket: a head, in one spelling.
//!
//! ```text
//! {"v":1,"kind":"head","request":"…","stream":"…","instance":"…","seq":N,"head":"<base64>","epoch":N,"t":T_US}
//! ```
//! The three texts hold `[A-Za-z0-9._:/@-]` only, so that nothing needs an escape. An anchor is
//! written only when the log service has accepted every line up to its record.

use ::base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{cursor::Cursor, digest::Hash, genesis::is_plain, line::MAX_NUMBER};

/// Which place of the chain an anchor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnchorKind {
    /// Record 0.
    Genesis,
    /// A record in between.
    Head,
    /// The seal.
    Seal,
}

impl AnchorKind {
    /// The word in the JSON.
    pub fn word(self) -> &'static str {
        match self {
            AnchorKind::Genesis => "genesis",
            AnchorKind::Head => "head",
            AnchorKind::Seal => "seal",
        }
    }
}

/// One head of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Which place.
    pub kind: AnchorKind,
    /// Request id.
    pub request: String,
    /// Log stream.
    pub stream: String,
    /// Instance id.
    pub instance: String,
    /// Record number.
    pub seq: u64,
    /// The head after that record.
    pub head: Hash,
    /// The record's epoch.
    pub epoch: u32,
    /// The record's time.
    pub t_us: u64,
}

/// The text is not an anchor.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("anchor is not in the one spelling of version 1")]
pub struct AnchorError;

impl AnchorError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        "anchor-spelling"
    }
}

impl Anchor {
    /// The object's body.
    pub fn to_json(&self) -> String {
        format!(
            "{{\"v\":1,\"kind\":\"{}\",\"request\":\"{}\",\"stream\":\"{}\",\"instance\":\"{}\",\
             \"seq\":{},\"head\":\"{}\",\"epoch\":{},\"t\":{}}}",
            self.kind.word(),
            self.request,
            self.stream,
            self.instance,
            self.seq,
            STANDARD.encode(self.head),
            self.epoch,
            self.t_us
        )
    }

    /// The object's name below `<aws userid>/<request>/`.
    pub fn object_name(&self) -> String {
        match self.kind {
            AnchorKind::Genesis => "genesis.json".to_owned(),
            AnchorKind::Head => format!("head-{:020}.json", self.seq),
            AnchorKind::Seal => "seal.json".to_owned(),
        }
    }

    /// Reads an object's body.
    pub fn parse(text: &[u8]) -> Result<Anchor, AnchorError> {
        read(text).ok_or(AnchorError)
    }
}

fn read(text: &[u8]) -> Option<Anchor> {
    let mut c = Cursor(text);
    c.literal(b"{\"v\":1,\"kind\":\"")?;
    let kind = match c.until_quote(8)? {
        b"genesis" => AnchorKind::Genesis,
        b"head" => AnchorKind::Head,
        b"seal" => AnchorKind::Seal,
        _ => return None,
    };
    c.literal(b"\",\"request\":\"")?;
    let request = plain(&mut c)?;
    c.literal(b"\",\"stream\":\"")?;
    let stream = plain(&mut c)?;
    c.literal(b"\",\"instance\":\"")?;
    let instance = plain(&mut c)?;
    c.literal(b"\",\"seq\":")?;
    let seq = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"head\":\"")?;
    let head = STANDARD.decode(c.until_quote(44)?).ok()?.try_into().ok()?;
    c.literal(b"\",\"epoch\":")?;
    let epoch = u32::try_from(c.decimal(u64::from(u32::MAX))?).ok()?;
    c.literal(b",\"t\":")?;
    let t_us = c.decimal(MAX_NUMBER)?;
    c.literal(b"}")?;
    c.is_empty().then_some(())?;
    ((kind == AnchorKind::Genesis) == (seq == 0)).then_some(())?;
    Some(Anchor {
        kind,
        request,
        stream,
        instance,
        seq,
        head,
        epoch,
        t_us,
    })
}

fn plain(c: &mut Cursor<'_>) -> Option<String> {
    let text = std::str::from_utf8(c.until_quote(512)?).ok()?;
    is_plain(text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_back_and_no_other_spelling_is() {
        let anchor = Anchor {
            kind: AnchorKind::Head,
            request: "req-1".to_owned(),
            stream: "req-1/i-1".to_owned(),
            instance: "i-1".to_owned(),
            seq: 7,
            head: [3; 32],
            epoch: 1,
            t_us: 9,
        };
        let json = anchor.to_json();
        assert_eq!(Anchor::parse(json.as_bytes()), Ok(anchor.clone()));
        assert_eq!(anchor.object_name(), "head-00000000000000000007.json");
        assert_eq!(
            Anchor::parse(format!("{json}\n").as_bytes()),
            Err(AnchorError)
        );
        assert_eq!(
            Anchor::parse(json.replace("req-1\"", "req 1\"").as_bytes()),
            Err(AnchorError)
        );
    }
}
