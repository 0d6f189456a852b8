//! Reading fixed bytes and fixed spellings without an index that could be out of range.

const POWERS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The number whose digits are the last `digits` (1 to 8) of these bytes. What stands before them may be anything.
#[inline(always)]
pub(crate) fn number_of(bytes: [u8; 8], digits: usize) -> u64 {
    let values = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
    let others = 64u32.saturating_sub(8 * digits as u32);
    joined(values.checked_shr(others).unwrap_or(0) << others)
}

/// Eight digits as one number, the first of them in the lowest byte. Neighbours are joined: tens, hundreds, ten
/// thousands.
#[inline(always)]
fn joined(digits: u64) -> u64 {
    let mut number = digits;
    number = (number & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8;
    number = (number & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 << 16 | 1) >> 16;
    (number & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 << 32 | 1) >> 32
}

/// What is left to read.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `n` bytes, or `None` when there are fewer.
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    /// The next `N` bytes where they lie.
    pub(crate) fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Exactly these bytes.
    #[inline]
    pub(crate) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A decimal number and the number of its digits.
    pub(crate) fn counted_decimal(&mut self, max: u64) -> Option<(u64, usize)> {
        let before = self.0.len();
        let value = self.decimal(max)?;
        Some((value, before - self.0.len()))
    }

    /// A decimal number in its only spelling: no sign, no leading zero, at most `max`.
    #[inline(always)]
    pub(crate) fn decimal(&mut self, max: u64) -> Option<u64> {
        if let [digit @ b'0'..=b'9', next, ..] = self.0
            && !next.is_ascii_digit()
        {
            self.0 = self.0.get(1..)?;
            let value = u64::from(digit - b'0');
            return (value <= max).then_some(value);
        }
        self.long_decimal(max)
    }

    #[inline(always)]
    fn long_decimal(&mut self, max: u64) -> Option<u64> {
        let leading_zero = self.0.first() == Some(&b'0');
        let (mut digits, mut value) = self.digits();
        if digits == 0 || (leading_zero && digits > 1) {
            return None;
        }
        self.0 = self.0.get(digits..)?;
        while digits == 8 && self.0.first().is_some_and(u8::is_ascii_digit) {
            let next;
            (digits, next) = self.digits();
            value = value.checked_mul(*POWERS.get(digits)?)?.checked_add(next)?;
            self.0 = self.0.get(digits..)?;
        }
        (value <= max).then_some(value)
    }

    /// How many of the next eight bytes are digits, and the number that they spell.
    #[inline(always)]
    fn digits(&self) -> (usize, u64) {
        let chunk = match self.0.first_chunk::<8>() {
            Some(all) => u64::from_le_bytes(*all),
            None => self.last_bytes(),
        };
        // The first letter is the lowest byte. 0x76 lifts a value above 9 over 0x7f; a carry only reaches the bytes
        // behind one that is no digit, which do not count.
        let values = chunk ^ 0x3030_3030_3030_3030;
        let wrong = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        let digits = (wrong.trailing_zeros() / 8) as usize;
        // Zeros before the digits.
        let number = joined(values.checked_shl(64 - 8 * digits as u32).unwrap_or(0));
        (digits, number)
    }

    /// Fewer than eight bytes, then zeros.
    #[cold]
    fn last_bytes(&self) -> u64 {
        let mut chunk = [0; 8];
        for (slot, byte) in chunk.iter_mut().zip(self.0) {
            *slot = *byte;
        }
        u64::from_le_bytes(chunk)
    }

    /// What stands before the next `"`, at most `max` bytes; the quote itself stays.
    pub(crate) fn until_quote(&mut self, max: usize) -> Option<&'a [u8]> {
        let end = self
            .0
            .iter()
            .take(max.saturating_add(1))
            .position(|b| *b == b'"')?;
        self.take(end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain way.
    fn slow(text: &str, max: u64) -> Option<(u64, usize)> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = &text[..digits];
        if number.len() > 1 && number.starts_with('0') {
            return None;
        }
        let value = number.parse().ok().filter(|value| *value <= max)?;
        Some((value, digits))
    }

    #[test]
    fn numbers_of_every_length_are_read_as_the_plain_way_reads_them() {
        let mut texts = vec![String::new(), "x".to_owned(), "-1".to_owned()];
        for digits in [
            "1234567890123456789012345",
            "9999999999999999999999",
            "0000000000",
        ] {
            for length in 1..digits.len() {
                for after in ["", ",", "/", ":", "\u{e9}", ",\"t\":1", "e5", " 123456789"] {
                    texts.push(format!("{}{after}", &digits[..length]));
                    texts.push(format!("1{}{after}", &"0".repeat(length)));
                }
            }
        }
        for limit in [u64::MAX, i64::MAX as u64, u64::from(u32::MAX)] {
            for number in [limit - 1, limit, limit.saturating_add(1)] {
                texts.push(number.to_string());
            }
        }
        for text in &texts {
            for max in [u64::MAX, i64::MAX as u64, 999, 0] {
                let mut c = Cursor(text.as_bytes());
                let read = c.decimal(max).map(|value| (value, text.len() - c.0.len()));
                assert_eq!(read, slow(text, max), "{text} {max}");
            }
        }
        for byte in 0..=255 {
            for place in 0..8 {
                let mut text = *b"12345678";
                text[place] = byte;
                let expected = text.iter().take_while(|b| b.is_ascii_digit()).count();
                assert_eq!(Cursor(&text).digits().0, expected, "{byte} {place}");
            }
        }
    }
}
