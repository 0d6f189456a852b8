//! Takes a line apart without copying: every byte of it stands where the one spelling wants it, or it is no line.
//!
//! A line travels bare, or inside a JSON string in which every quote has a backslash before it (an export's
//! envelope). Both are read where they lie. What is Base64 is found by its length and not looked at.

use crate::{
    cursor::Cursor,
    kind::Kind,
    line::{MAX_NUMBER, MAX_PAYLOAD},
    shape::Shape,
};

/// A line taken apart, its byte strings still in Base64.
#[derive(Debug, PartialEq)]
pub(crate) struct Scanned<'a> {
    /// `s` or `u`.
    pub(crate) number: u64,
    pub(crate) t_us: u64,
    pub(crate) kind: Kind,
    pub(crate) session: u32,
    pub(crate) body: Body<'a>,
}

/// What the three forms of a line hold. The texts may be anything: decoding them is the last check.
#[derive(Debug, PartialEq)]
pub(crate) enum Body<'a> {
    Full {
        previous: &'a [u8; 44],
        salt: &'a [u8; 24],
        payload: &'a [u8],
    },
    Withheld {
        previous: &'a [u8; 44],
        len: u32,
        digest: &'a [u8; 44],
    },
    Frame {
        payload: &'a [u8],
    },
}

/// 32 zero bytes in Base64.
const ZEROS: &[u8; 44] = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// The fixed parts of a line.
pub(crate) trait Spelling {
    const OPEN: &'static [u8];
    const NUMBER: &'static [u8];
    const TIME: &'static [u8];
    const KIND: &'static [u8];
    const SESSION: &'static [u8];
    const PREVIOUS: &'static [u8];
    const SALT: &'static [u8];
    const PAYLOAD: &'static [u8];
    const LENGTH: &'static [u8];
    const DIGEST: &'static [u8];
    const FRAME: &'static [u8];
    const END: &'static [u8];
}

macro_rules! spelling {
    ($(#[$doc:meta])* $name:ident, $quote:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Spelling for $name {
            const OPEN: &'static [u8] = concat!("{", $quote, "v", $quote, ":1,", $quote).as_bytes();
            const NUMBER: &'static [u8] = concat!($quote, ":").as_bytes();
            const TIME: &'static [u8] = concat!(",", $quote, "t", $quote, ":").as_bytes();
            const KIND: &'static [u8] = concat!(",", $quote, "k", $quote, ":", $quote).as_bytes();
            const SESSION: &'static [u8] = concat!($quote, ",", $quote, "n", $quote, ":").as_bytes();
            const PREVIOUS: &'static [u8] = concat!(",", $quote, "p", $quote, ":", $quote).as_bytes();
            const SALT: &'static [u8] =
                concat!($quote, ",", $quote, "z", $quote, ":", $quote).as_bytes();
            const PAYLOAD: &'static [u8] =
                concat!($quote, ",", $quote, "d", $quote, ":", $quote).as_bytes();
            const LENGTH: &'static [u8] = concat!($quote, ",", $quote, "l", $quote, ":").as_bytes();
            const DIGEST: &'static [u8] = concat!(",", $quote, "w", $quote, ":", $quote).as_bytes();
            const FRAME: &'static [u8] = concat!(",", $quote, "d", $quote, ":", $quote).as_bytes();
            const END: &'static [u8] = concat!($quote, "}").as_bytes();
        }
    };
}

spelling!(
    /// A line by itself.
    Bare,
    "\""
);
spelling!(
    /// A line inside a JSON string.
    Quoted,
    "\\\""
);

/// A line up to its session.
pub(crate) struct Front {
    pub(crate) sealed: bool,
    pub(crate) number: u64,
    pub(crate) t_us: u64,
    pub(crate) kind: Kind,
    pub(crate) session: u32,
}

/// Takes a line apart. Its length is the caller's to bound.
pub(crate) fn scan<S: Spelling>(line: &[u8]) -> Option<Scanned<'_>> {
    let mut c = Cursor(line);
    let (front, _) = read_front::<S>(&mut c)?;
    read_body::<S>(&front, c)
}

/// [`scan`] for a line of many. Inlined: what it gives is read at once, and would only just have been written.
#[inline(always)]
pub(crate) fn scan_next<'a, S: Spelling>(
    line: &'a [u8],
    shape: &mut Shape<S>,
) -> Option<Scanned<'a>> {
    if let Some((front, c)) = shape.read(line) {
        return read_body::<S>(&front, c);
    }
    let mut c = Cursor(line);
    let (front, digits) = read_front::<S>(&mut c)?;
    if front.sealed {
        shape.learn(digits);
    }
    read_body::<S>(&front, c)
}

/// Gives how many digits the three numbers have, besides.
fn read_front<S: Spelling>(c: &mut Cursor<'_>) -> Option<(Front, [usize; 3])> {
    c.literal(S::OPEN)?;
    let sealed = match c.u8()? {
        b's' => true,
        b'u' => false,
        _ => return None,
    };
    c.literal(S::NUMBER)?;
    let (number, number_digits) = c.counted_decimal(MAX_NUMBER)?;
    c.literal(S::TIME)?;
    let (t_us, time_digits) = c.counted_decimal(MAX_NUMBER)?;
    c.literal(S::KIND)?;
    let kind = Kind::from_byte(c.u8()?)?;
    c.literal(S::SESSION)?;
    let (session, session_digits) = c.counted_decimal(u64::from(u32::MAX))?;
    let front = Front {
        sealed,
        number,
        t_us,
        kind,
        session: u32::try_from(session).ok()?,
    };
    Some((front, [number_digits, time_digits, session_digits]))
}

#[inline(always)]
fn read_body<'a, S: Spelling>(front: &Front, mut c: Cursor<'a>) -> Option<Scanned<'a>> {
    let body = if front.sealed {
        sealed_body::<S>(&mut c)?
    } else {
        c.literal(S::FRAME)?;
        Body::Frame {
            payload: c.0.strip_suffix(S::END)?,
        }
    };
    let scanned = Scanned {
        number: front.number,
        t_us: front.t_us,
        kind: front.kind,
        session: front.session,
        body,
    };
    is_possible(&scanned).then_some(scanned)
}

#[inline(always)]
fn sealed_body<'a, S: Spelling>(c: &mut Cursor<'a>) -> Option<Body<'a>> {
    c.literal(S::PREVIOUS)?;
    let previous = c.chunk()?;
    if c.literal(S::SALT).is_some() {
        let salt = c.chunk()?;
        c.literal(S::PAYLOAD)?;
        return Some(Body::Full {
            previous,
            salt,
            payload: c.0.strip_suffix(S::END)?,
        });
    }
    c.literal(S::LENGTH)?;
    let len = u32::try_from(c.decimal(MAX_PAYLOAD as u64)?).ok()?;
    c.literal(S::DIGEST)?;
    let digest = c.chunk()?;
    c.literal(S::END)?;
    c.is_empty().then_some(Body::Withheld {
        previous,
        len,
        digest,
    })
}

/// Record 0 is the genesis and nothing else is; what carries the chain is never withheld, belongs to
/// no session and is never a frame.
#[inline(always)]
fn is_possible(scanned: &Scanned<'_>) -> bool {
    let (previous, full) = match &scanned.body {
        Body::Frame { .. } => return !scanned.kind.is_structural(),
        Body::Full { previous, .. } => (previous, true),
        Body::Withheld { previous, .. } => (previous, false),
    };
    let genesis = scanned.kind == Kind::Genesis;
    if genesis != (scanned.number == 0) || genesis != is_zeros(previous) {
        return false;
    }
    !scanned.kind.is_structural() || (scanned.session == 0 && full)
}

/// Most heads are told from it by their first letters.
#[inline(always)]
fn is_zeros(head: &[u8; 44]) -> bool {
    head.first_chunk::<8>() == ZEROS.first_chunk() && head == ZEROS
}
