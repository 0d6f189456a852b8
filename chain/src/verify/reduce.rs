//! Lines, reduced to what verification needs of them. Independent of every other line, so any thread may do it.
//!
//! A reducer takes some lines before it hashes them: their payloads lie side by side as padded blocks, decoded to
//! where they are hashed, and two are hashed at a time. What it gives is in the order of the lines.

use crate::{
    base64::{decode_32, decode_heads, decode_into, decoded_len},
    checkpoint::CheckpointBody,
    digest::{Hash, Link, fill_payload_blocks, genesis_hash, payload_blocks},
    gap::Gap,
    genesis::SignedGenesis,
    kind::Kind,
    line::{MAX_LINE, MAX_PAYLOAD},
    scan::{Bare, Body, Quoted, Scanned, scan_next},
    sha::{Block, hash_each},
    shape::Shape,
};

use super::node::{Control, Node, Special};

/// Records that are hashed together, and blocks of payload at which they are hashed at the latest.
const TOGETHER: usize = 32;
const ENOUGH_BLOCKS: usize = 128;

/// Reduced lines. Frames and unreadable lines are only counted: a short one must not cost as much as a record.
#[derive(Default)]
pub(super) struct Reduced {
    /// The first `count` are records; those behind them are old and are written over.
    nodes: Vec<Node>,
    count: usize,
    /// By the place of their node.
    pub(super) specials: Vec<(usize, Special)>,
    pub(super) unreadable: u64,
    pub(super) frames: u64,
    pub(super) frame_bytes: u64,
}

impl Reduced {
    /// The records, in their order.
    pub(super) fn nodes(&self) -> &[Node] {
        self.nodes.get(..self.count).unwrap_or_default()
    }

    /// The node behind the last one.
    #[inline(always)]
    fn next(&mut self) -> Option<&mut Node> {
        if self.nodes.len() <= self.count {
            self.nodes.resize(self.count + TOGETHER, Node::BLANK);
        }
        self.nodes.get_mut(self.count)
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.specials.clear();
        (self.unreadable, self.frames, self.frame_bytes) = (0, 0, 0);
    }
}

/// A record whose payload is not hashed yet: its blocks, and the place of its node.
struct Pending {
    first: usize,
    count: usize,
    node: usize,
}

/// Reduces lines.
#[derive(Default)]
pub struct Reducer {
    reduced: Reduced,
    blocks: Vec<Block>,
    used: usize,
    pending: Vec<Pending>,
    bare: Shape<Bare>,
    quoted: Shape<Quoted>,
}

impl Reducer {
    /// A reducer that has taken nothing.
    pub fn new() -> Reducer {
        Reducer::default()
    }

    /// One line without its newline. `timestamp_ms` is the log event's time where it is known.
    pub fn line(&mut self, line: &[u8], timestamp_ms: Option<i64>) {
        self.hash_enough(&[]);
        if line.len() > MAX_LINE || self.read_bare(line, timestamp_ms).is_none() {
            self.unreadable();
        }
    }

    /// One line as it stands in a JSON string, where only the quotes have to be escaped. When it is spelled in any
    /// other way nothing is taken and the answer is `false`: the caller opens the string and hands in the line.
    pub fn quoted(&mut self, text: &[u8], timestamp_ms: Option<i64>) -> bool {
        self.hash_enough(&[]);
        // The longest line that decodes has 24 quotes; the bound only keeps what is longer from being looked at.
        text.len() <= MAX_LINE + 32 && self.read_quoted(text, timestamp_ms).is_some()
    }

    fn read_quoted(&mut self, text: &[u8], timestamp_ms: Option<i64>) -> Option<()> {
        let scanned = scan_next(text, &mut self.quoted)?;
        self.read(&scanned, timestamp_ms)
    }

    fn read_bare(&mut self, line: &[u8], timestamp_ms: Option<i64>) -> Option<()> {
        let scanned = scan_next(line, &mut self.bare)?;
        self.read(&scanned, timestamp_ms)
    }

    /// What is no line of the format.
    pub fn unreadable(&mut self) {
        self.reduced.unreadable += 1;
    }

    /// Hands over what was reduced, and takes what is left of an earlier one for its room.
    pub(super) fn finish(&mut self, mut spare: Reduced) -> Reduced {
        self.hash(&[]);
        spare.clear();
        std::mem::replace(&mut self.reduced, spare)
    }

    /// How many records are ready to be judged: none while some of them are not hashed.
    pub(super) fn ready(&self) -> usize {
        if self.pending.is_empty() {
            self.reduced.count
        } else {
            0
        }
    }

    #[inline(always)]
    fn read(&mut self, scanned: &Scanned<'_>, timestamp_ms: Option<i64>) -> Option<()> {
        let retimed = timestamp_ms.is_some_and(|ms| i64::try_from(scanned.t_us / 1000) != Ok(ms));
        match scanned.body {
            Body::Full {
                previous,
                salt,
                payload,
            } => {
                let length = decoded_len(payload).filter(|length| *length <= MAX_PAYLOAD)?;
                let node = self.reduced.next()?;
                node.set_numbers(scanned, u16::try_from(length).ok()?, retimed);
                let blocks = room(&mut self.blocks, self.used, payload_blocks(length))?;
                fill_payload_blocks(blocks, length, |to, space| {
                    decode_into(payload, length, space)?;
                    decode_heads((previous, salt), &mut node.previous, to).then_some(())
                })?;
                self.full(scanned.kind, length)
            }
            Body::Withheld {
                previous,
                len,
                digest,
            } => {
                let node = self.reduced.next()?;
                node.set_numbers(scanned, u16::try_from(len).ok()?, retimed);
                node.set_withheld();
                node.previous = decode_32(previous)?;
                node.digest = decode_32(digest)?;
                node.hash = node.link().hash();
                self.reduced.count += 1;
                Some(())
            }
            Body::Frame { payload } => {
                let length = decoded_len(payload).filter(|length| *length <= MAX_PAYLOAD)?;
                let space = room(&mut self.blocks, self.used, payload_blocks(length))?;
                decode_into(payload, length, space.as_flattened_mut())?;
                self.reduced.frames += 1;
                self.reduced.frame_bytes += length as u64;
                Some(())
            }
        }
    }

    /// A record whose payload lies in the next blocks, and whose node is the next one.
    #[inline(always)]
    fn full(&mut self, kind: Kind, length: usize) -> Option<()> {
        let count = payload_blocks(length);
        if matches!(
            kind,
            Kind::Checkpoint | Kind::Seal | Kind::Gap | Kind::Genesis
        ) {
            let blocks = self.blocks.get(self.used..self.used + count)?;
            let (salt, payload) = blocks.as_flattened().get(16..)?.split_first_chunk()?;
            let node = self.reduced.next()?;
            let special = read_special(node, salt, payload.get(..length)?)?;
            let place = self.reduced.count;
            let special = special.map(|special| (place, special));
            self.reduced.specials.extend(special);
            if kind == Kind::Genesis {
                self.reduced.count += 1;
                return Some(());
            }
        }
        self.pending.push(Pending {
            first: self.used,
            count,
            node: self.reduced.count,
        });
        self.reduced.count += 1;
        self.used += count;
        Some(())
    }

    /// Hashes the records that wait once they are enough; `soon` is what will be read next.
    #[inline]
    pub(super) fn hash_enough(&mut self, soon: &[u8]) {
        if self.pending.len() >= TOGETHER || self.used >= ENOUGH_BLOCKS {
            self.hash(soon);
        }
    }

    /// Payloads first, then the links that hold their digests.
    fn hash(&mut self, soon: &[u8]) {
        let (nodes, pending) = (&mut self.reduced.nodes, &self.pending);
        let payloads = pending.iter().map(|one| {
            let blocks = self.blocks.get(one.first..one.first + one.count);
            blocks.unwrap_or_default()
        });
        hash_each(payloads, soon, |place, digest| {
            let node = pending.get(place).and_then(|one| nodes.get_mut(one.node));
            if let Some(node) = node {
                node.digest = digest;
            }
        });
        for pair in pending.chunks(2) {
            let mut places = pair.iter().map(|one| one.node);
            let (one, two) = (places.next(), places.next());
            let node = |place: Option<usize>| nodes.get(place?);
            match (node(one), node(two)) {
                (Some(first), Some(second)) => {
                    let hashes = Link::hash_pair(&first.link(), &second.link());
                    for (place, hash) in one.into_iter().chain(two).zip(hashes) {
                        set_hash(nodes, place, hash);
                    }
                }
                (Some(only), None) => {
                    let hash = only.link().hash();
                    set_hash(nodes, one.unwrap_or_default(), hash);
                }
                (None, _) => {}
            }
        }
        self.pending.clear();
        self.used = 0;
    }
}

#[inline]
fn set_hash(nodes: &mut [Node], place: usize, hash: Hash) {
    if let Some(node) = nodes.get_mut(place) {
        node.hash = hash;
    }
}

/// `count` blocks behind the first `used`.
#[inline]
fn room(blocks: &mut Vec<Block>, used: usize, count: usize) -> Option<&mut [Block]> {
    if blocks.len() < used + count {
        blocks.resize(used + count, [0; 64]);
    }
    blocks.get_mut(used..used + count)
}

/// `None` when a genesis, checkpoint or seal has another form than its own.
#[allow(clippy::option_option)]
fn read_special(node: &mut Node, salt: &[u8; 16], payload: &[u8]) -> Option<Option<Special>> {
    Some(match node.kind {
        Kind::Genesis => {
            let signed = SignedGenesis::decode(payload).ok()?;
            if signed.genesis.started_us != node.t_us {
                return None;
            }
            node.digest = [0; 32];
            node.hash = genesis_hash(salt, payload);
            Some(Special::Genesis(Box::new(signed)))
        }
        Kind::Checkpoint | Kind::Seal => {
            let (body, _) = CheckpointBody::decode(node.kind, payload)?;
            Some(Special::Control(Control {
                hash: node.hash,
                place: None,
                previous: node.previous,
                salt: *salt,
                seq: node.seq,
                t_us: node.t_us,
                epoch: body.epoch,
                kind: node.kind,
                payload: payload.into(),
            }))
        }
        Kind::Gap => Gap::decode(payload).map(Special::Gap),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Content, Record, unsealed_line, withheld_line};

    fn lines() -> Vec<String> {
        let record = |kind, payload: &[u8]| Record {
            seq: 12,
            t_us: 1_764_000_000_000_001,
            kind,
            session: 1,
            previous: [9; 32],
            content: Content::Full {
                salt: [1; 16],
                payload: payload.to_vec(),
            },
        };
        let output = record(Kind::Output, b"hello, hello, hello, hello").to_line();
        vec![
            withheld_line(output.as_bytes()).unwrap(),
            output,
            record(Kind::Event, b"").to_line(),
            unsealed_line(3, 4, Kind::Input, 5, b"last words"),
        ]
    }

    fn seen(reducer: &mut Reducer) -> String {
        let reduced = reducer.finish(Reduced::default());
        format!(
            "{:?} {} {} {}",
            reduced.nodes(),
            reduced.unreadable,
            reduced.frames,
            reduced.frame_bytes
        )
    }

    #[test]
    fn a_line_in_a_json_string_is_read_where_it_lies_as_it_is_read_bare() {
        let mut taken = 0;
        for line in lines() {
            for place in 0..line.len() {
                for byte in (0..=255).filter(|byte| !b"\"\\".contains(byte)) {
                    let mut bare = line.clone().into_bytes();
                    bare[place] = byte;
                    let mut quoted = Vec::new();
                    for byte in &bare {
                        quoted.extend_from_slice(if *byte == b'"' { b"\\" } else { b"" });
                        quoted.push(*byte);
                    }
                    let (mut one, mut two) = (Reducer::new(), Reducer::new());
                    one.line(&bare, Some(1_764_000_000_000));
                    if two.quoted(&quoted, Some(1_764_000_000_000)) {
                        taken += 1;
                    } else {
                        two.unreadable();
                    }
                    assert_eq!(seen(&mut one), seen(&mut two));
                }
            }
        }
        assert!(taken > 4_000, "{taken}");
    }

    #[test]
    fn records_come_out_in_the_order_of_their_lines_with_their_own_hashes() {
        let mut reducer = Reducer::new();
        let mut expected = Vec::new();
        let mut previous = [7; 32];
        for seq in 1..300u64 {
            let payload = vec![seq as u8; (seq * seq % 700) as usize];
            let content = Content::Full {
                salt: [seq as u8; 16],
                payload,
            };
            let record = Record {
                seq,
                t_us: seq * 3,
                kind: Kind::Output,
                session: 1,
                previous,
                content,
            };
            let mut line = record.to_line();
            if seq % 7 == 0 {
                line = withheld_line(line.as_bytes()).unwrap();
            }
            previous = record.hash();
            expected.push(previous);
            reducer.line(line.as_bytes(), None);
        }
        let reduced = reducer.finish(Reduced::default());
        let hashes: Vec<Hash> = reduced.nodes().iter().map(|node| node.hash).collect();
        assert_eq!(hashes, expected);
    }
}
