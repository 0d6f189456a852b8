//! What a record is: one letter in the line, the same ASCII byte in the hash.

/// The kind of a record. The discriminant is the byte that is hashed and the letter in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Bytes that the session's terminal showed.
    Output = b'o',
    /// Bytes that were typed.
    Input = b'i',
    /// The terminal's size changed.
    Resize = b'r',
    /// A login began.
    SessionStart = b'b',
    /// A login ended.
    SessionEnd = b'e',
    /// Somebody was turned away.
    Refusal = b'x',
    /// An SQL statement that reached the recorder's endpoint.
    Statement = b'q',
    /// What the database answered to a statement.
    StatementResult = b'a',
    /// The operator was warned of the end.
    Warning = b'w',
    /// The wall clock moved against the monotonic one.
    ClockJump = b'j',
    /// Events that the log service refused to keep.
    Gap = b'l',
    /// Anything else that the agent did or saw.
    Event = b'v',
    /// The end of an epoch, signed.
    Checkpoint = b'c',
    /// The end of the chain, signed.
    Seal = b'f',
    /// The start of the chain: record 0.
    Genesis = b'g',
}

impl Kind {
    /// Every kind, in the order in which counts are written.
    pub const ALL: [Kind; 15] = [
        Kind::Output,
        Kind::Input,
        Kind::Resize,
        Kind::SessionStart,
        Kind::SessionEnd,
        Kind::Refusal,
        Kind::Statement,
        Kind::StatementResult,
        Kind::Warning,
        Kind::ClockJump,
        Kind::Gap,
        Kind::Event,
        Kind::Checkpoint,
        Kind::Seal,
        Kind::Genesis,
    ];

    /// The byte that is hashed.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The letter in the line.
    pub fn letter(self) -> char {
        char::from(self as u8)
    }

    /// The kind behind a letter.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            b'o' => Kind::Output,
            b'i' => Kind::Input,
            b'r' => Kind::Resize,
            b'b' => Kind::SessionStart,
            b'e' => Kind::SessionEnd,
            b'x' => Kind::Refusal,
            b'q' => Kind::Statement,
            b'a' => Kind::StatementResult,
            b'w' => Kind::Warning,
            b'j' => Kind::ClockJump,
            b'l' => Kind::Gap,
            b'v' => Kind::Event,
            b'c' => Kind::Checkpoint,
            b'f' => Kind::Seal,
            b'g' => Kind::Genesis,
            _ => return None,
        })
    }

    /// Position in [`Kind::ALL`].
    pub fn index(self) -> usize {
        match self {
            Kind::Output => 0,
            Kind::Input => 1,
            Kind::Resize => 2,
            Kind::SessionStart => 3,
            Kind::SessionEnd => 4,
            Kind::Refusal => 5,
            Kind::Statement => 6,
            Kind::StatementResult => 7,
            Kind::Warning => 8,
            Kind::ClockJump => 9,
            Kind::Gap => 10,
            Kind::Event => 11,
            Kind::Checkpoint => 12,
            Kind::Seal => 13,
            Kind::Genesis => 14,
        }
    }

    /// The word for people and for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Output => "output",
            Kind::Input => "input",
            Kind::Resize => "resize",
            Kind::SessionStart => "session-start",
            Kind::SessionEnd => "session-end",
            Kind::Refusal => "refusal",
            Kind::Statement => "statement",
            Kind::StatementResult => "statement-result",
            Kind::Warning => "warning",
            Kind::ClockJump => "clock-jump",
            Kind::Gap => "gap",
            Kind::Event => "event",
            Kind::Checkpoint => "checkpoint",
            Kind::Seal => "seal",
            Kind::Genesis => "genesis",
        }
    }

    /// Genesis, checkpoint and seal carry the chain itself: the sealer alone makes them, they
    /// belong to no session and can never be withheld.
    pub fn is_structural(self) -> bool {
        matches!(self, Kind::Checkpoint | Kind::Seal | Kind::Genesis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_leads_back_to_its_kind_and_index() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
            assert_eq!(kind.index(), index);
        }
        let known = (0..=255).filter(|byte| Kind::from_byte(*byte).is_some());
        assert_eq!(known.count(), Kind::ALL.len());
    }
}
