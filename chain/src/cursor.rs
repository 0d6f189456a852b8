//! Reading fixed bytes and fixed spellings without an index that could be out of range.

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
    pub(crate) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A decimal number in its only spelling: no sign, no leading zero, at most `max`.
    pub(crate) fn decimal(&mut self, max: u64) -> Option<u64> {
        let digits = self
            .0
            .iter()
            .take(20)
            .take_while(|b| b.is_ascii_digit())
            .count();
        let text = self.take(digits)?;
        match text {
            [] => return None,
            [b'0', _, ..] => return None,
            _ => {}
        }
        let mut value: u64 = 0;
        for digit in text {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
        }
        (value <= max).then_some(value)
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
