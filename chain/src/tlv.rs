//! Tag u8 ‖ length u16 ‖ value, tags ascending from 1 without a hole: one spelling of a list of fields.

use crate::cursor::Cursor;

/// Writes the fields in order.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    next: u8,
    overflow: bool,
}

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer {
            bytes: Vec::new(),
            next: 1,
            overflow: false,
        }
    }

    pub(crate) fn field(&mut self, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len()) else {
            self.overflow = true;
            return;
        };
        self.bytes.push(self.next);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.next = self.next.saturating_add(1);
    }

    /// The bytes, or `None` when a field was longer than 65,535 bytes.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        (!self.overflow).then_some(self.bytes)
    }
}

/// Reads the fields back in order.
pub(crate) struct Reader<'a> {
    cursor: Cursor<'a>,
    next: u8,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            cursor: Cursor(bytes),
            next: 1,
        }
    }

    pub(crate) fn field(&mut self) -> Option<&'a [u8]> {
        if self.cursor.u8()? != self.next {
            return None;
        }
        self.next = self.next.checked_add(1)?;
        let len = self.cursor.u16()?;
        self.cursor.take(usize::from(len))
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.field()?).ok().map(str::to_owned)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.field()?.try_into().ok()
    }

    pub(crate) fn end(self) -> Option<()> {
        self.cursor.is_empty().then_some(())
    }
}
