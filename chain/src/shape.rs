//! The front of a line, read as the line before it was spelled.
//!
//! Within a stream most lines have numbers of the same widths. Then every byte of the front is either known or one of
//! ten digits at a known place, and one comparison without a branch says whether it is. What it says no to is read
//! the long way, which also learns the widths anew: no verdict depends on it.

use std::marker::PhantomData;

use crate::{
    cursor::{Cursor, number_of},
    kind::Kind,
    scan::{Front, Spelling},
};

/// A front is compared up to here; longer ones are always read the long way.
const LENGTH: usize = 80;
/// Numbers of more digits are always read the long way.
const MOST_DIGITS: usize = 16;

/// The widths of the last front's numbers, and what they allow at each place.
pub(crate) struct Shape<S> {
    lowest: [u8; LENGTH],
    /// How far a byte may be above its lowest.
    span: [u8; LENGTH],
    number: Digits,
    time: Digits,
    session: Digits,
    spelling: PhantomData<S>,
}

/// Where a number stands.
#[derive(Clone, Copy, Default)]
struct Digits {
    end: usize,
    count: usize,
}

impl<S> Default for Shape<S> {
    /// Fits no line: none begins with such bytes.
    fn default() -> Shape<S> {
        Shape {
            lowest: [1; LENGTH],
            span: [0; LENGTH],
            number: Digits::default(),
            time: Digits::default(),
            session: Digits::default(),
            spelling: PhantomData,
        }
    }
}

impl<S: Spelling> Shape<S> {
    /// The front of a sealed line of this shape, and what stands behind it.
    #[inline(always)]
    pub(crate) fn read<'a>(&self, line: &'a [u8]) -> Option<(Front, Cursor<'a>)> {
        let head = line.first_chunk::<LENGTH>()?;
        let mut over = 0;
        for ((byte, lowest), span) in head.iter().zip(&self.lowest).zip(&self.span) {
            over |= byte.wrapping_sub(*lowest).saturating_sub(*span);
        }
        if over != 0 {
            return None;
        }
        let letter = self.time.end + S::KIND.len();
        let front = Front {
            sealed: true,
            number: number_at(head, self.number)?,
            t_us: number_at(head, self.time)?,
            kind: Kind::from_byte(*head.get(letter)?)?,
            session: u32::try_from(number_at(head, self.session)?).ok()?,
        };
        Some((front, Cursor(line.get(self.session.end..)?)))
    }

    /// Takes the shape of a front whose numbers have so many digits, if it can be compared.
    #[cold]
    pub(crate) fn learn(&mut self, digits: [usize; 3]) {
        *self = Shape::default();
        let mut learned = Shape::default();
        if learned.spell(digits).is_some() {
            *self = learned;
        }
    }

    fn spell(&mut self, [number, time, session]: [usize; 3]) -> Option<()> {
        (self.lowest, self.span) = ([0; LENGTH], [0xff; LENGTH]);
        let mut end = 0;
        self.literal(&mut end, &[S::OPEN, b"s", S::NUMBER])?;
        self.number = self.digits(&mut end, number)?;
        self.literal(&mut end, &[S::TIME])?;
        self.time = self.digits(&mut end, time)?;
        self.literal(&mut end, &[S::KIND])?;
        end += 1;
        self.literal(&mut end, &[S::SESSION])?;
        self.session = self.digits(&mut end, session)?;
        // No digit may follow.
        self.literal(&mut end, &[S::PREVIOUS])
    }

    fn literal(&mut self, end: &mut usize, parts: &[&[u8]]) -> Option<()> {
        for part in parts {
            let places = *end..*end + part.len();
            self.lowest.get_mut(places.clone())?.copy_from_slice(part);
            self.span.get_mut(places)?.fill(0);
            *end += part.len();
        }
        Some(())
    }

    fn digits(&mut self, end: &mut usize, count: usize) -> Option<Digits> {
        let places = *end..*end + count;
        self.lowest.get_mut(places.clone())?.fill(b'0');
        self.span.get_mut(places.clone())?.fill(9);
        if count > 1 {
            *self.lowest.get_mut(places.start)? = b'1';
            *self.span.get_mut(places.start)? = 8;
        }
        *end += count;
        (1..=MOST_DIGITS)
            .contains(&count)
            .then_some(Digits { end: *end, count })
    }
}

/// The number whose digits stand here. At least eight bytes are before its end, and sixteen when it has more digits.
#[inline(always)]
fn number_at(head: &[u8; LENGTH], digits: Digits) -> Option<u64> {
    let (before, last) = head.get(..digits.end)?.split_last_chunk()?;
    let Some(more) = digits.count.checked_sub(9) else {
        return Some(number_of(*last, digits.count));
    };
    let first = number_of(*before.last_chunk()?, more + 1);
    Some(first * 100_000_000 + number_of(*last, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        line::{Content, Record},
        scan::{Bare, Quoted, scan, scan_next},
    };

    fn line(seq: u64, t_us: u64, session: u32) -> Vec<u8> {
        let record = Record {
            seq,
            t_us,
            kind: Kind::Output,
            session,
            previous: [9; 32],
            content: Content::Full {
                salt: [1; 16],
                payload: b"hello".to_vec(),
            },
        };
        record.to_line().into_bytes()
    }

    fn quoted(line: &[u8]) -> Vec<u8> {
        let escape = |byte: &u8| [b'\\', *byte].into_iter().skip(usize::from(*byte != b'"'));
        line.iter().flat_map(escape).collect()
    }

    /// Fronts of many widths, and every change of a byte in each.
    fn compare<S: Spelling>(lines: &[Vec<u8>]) {
        let mut compared = 0;
        let mut shape = Shape::<S>::default();
        for line in lines {
            assert_eq!(scan_next(line, &mut shape), scan::<S>(line));
            for place in 0..line.len().min(LENGTH + 20) {
                for byte in 0..=255 {
                    let mut line = line.clone();
                    line[place] = byte;
                    let mut shape = Shape { ..shape };
                    compared += usize::from(shape.read(&line).is_some());
                    assert_eq!(scan_next(&line, &mut shape), scan::<S>(&line));
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn a_front_is_read_as_the_long_way_reads_it() {
        let mut lines = Vec::new();
        for digits in 0..19 {
            let number = 9_876_543_210_987_654_321 / 10u64.pow(digits);
            let short = u32::try_from(number % 1_000_000).unwrap();
            lines.push(line(number.min(i64::MAX as u64), 1_764_000_000_000_000, 1));
            lines.push(line(12, number.min(i64::MAX as u64), short));
        }
        lines.extend([line(1, 0, 0), line(0, 5, 0), line(10, 9, u32::MAX)]);
        compare::<Bare>(&lines);
        let quoted: Vec<_> = lines.iter().map(|line| quoted(line)).collect();
        compare::<Quoted>(&quoted);
    }

    #[test]
    fn a_line_of_other_widths_does_not_fit() {
        let mut shape = Shape::<Bare>::default();
        assert!(shape.read(&line(12, 345, 6)).is_none());
        shape.learn([2, 3, 1]);
        assert!(shape.read(&line(98, 100, 0)).is_some());
        for other in [line(9, 345, 6), line(12, 3456, 6), line(12, 345, 67)] {
            assert!(shape.read(&other).is_none());
        }
        for too_long in [[17, 3, 1], [16, 16, 16]] {
            shape.learn(too_long);
            assert!(shape.read(&line(98, 100, 0)).is_none());
        }
    }
}
