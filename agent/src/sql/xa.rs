//! Keeps a client from leaving a prepared XA branch behind: it has neither a connection nor an account, so its locks
//! outlive the window and any later grant could commit it.
//!
//! Looks for the words XA and PREPARE, in this order, anywhere in one command or in the local data of one, comments and
//! texts included: what lies between words differs by server and character set, and a statement that holds both without
//! meaning it is rare. In a text a backslash makes a blank of the letter behind it (`\nXA`) or nothing at all (`X\A`), or is
//! one itself, by the server's mode and by how often the text is read; so each reading counts. A byte of zero, or `\0`, may be
//! half of a letter (`_utf16'\0X\0A…'`), so a word may go on behind it; and behind a quote, since texts that stand side by side
//! are one (`'XA PRE' 'PARE'`). A value of an execution has its length before it, which may be a letter, so there a word may begin anywhere, if nothing but a blank or a comment
//! follows it.
//!
//! MySQL takes XA in no prepared statement (error 1295), so a text that is put together on the server cannot get around
//! this; MariaDB does take it (`docs/database.md`).

use super::command;

/// What a backslash makes a blank or another sign of.
const BLANKS: &[u8] = b"ntrb0Z";
/// A word of which the watch follows how far it has come.
const PREPARE: &[u8; 7] = b"prepare";

/// What the bytes so far may end with, as bits. The beginning of a word.
const START: u32 = 1;
/// One digit to four, and five or more: a version's digits stand before a word without a blank in `/*!50000XA*/`,
/// `/*M!100100XA*/`. A word that begins with fewer is another one (`0xA`).
const DIGIT: u32 = 1 << 1;
const VERSION: u32 = 1 << 5;
/// `x`, `xa`, and the letters of `prepare`.
const X: u32 = 1 << 6;
const XA: u32 = 1 << 7;
const P: u32 = 1 << 8;
const PREPARED: u32 = 1 << 14;
/// The same where a length may stand before the word, and `xa` with blanks behind it.
const GLUED_X: u32 = 1 << 15;
const GLUED_XA: u32 = 1 << 16;
const GLUED_BLANK: u32 = 1 << 17;
const GLUED_P: u32 = 1 << 18;
const GLUED_PREPARED: u32 = 1 << 24;

/// Behind a quote, with nothing but blanks and comments since.
#[derive(Debug, Clone, Copy)]
struct Apart {
    /// What the text before the quote may end with.
    may: u32,
    /// What follows may be a comment, of which no end is looked for.
    comment: bool,
}

/// Follows the words of one command.
#[derive(Debug, Clone)]
pub(super) struct XaWatch {
    may: u32,
    apart: Option<Apart>,
    /// What the bytes before the backslashes may end with, that the bytes so far end with.
    escaped: Option<u32>,
    begun: bool,
    /// Whether lengths stand between texts.
    lengths: bool,
}

impl Default for XaWatch {
    fn default() -> Self {
        Self {
            may: START,
            apart: None,
            escaped: None,
            begun: false,
            lengths: false,
        }
    }
}

impl XaWatch {
    /// For a command with this byte.
    pub(super) fn of(command: u8) -> Self {
        let with_lengths = [
            command::EXECUTE,
            command::SEND_LONG_DATA,
            command::BULK_EXECUTE,
        ];
        Self {
            lengths: with_lengths.contains(&command),
            ..Self::default()
        }
    }

    /// Takes the command's next bytes; true when they prepare an XA branch.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.prepares(*byte))
    }

    fn prepares(&mut self, byte: u8) -> bool {
        let before = self.may;
        if matches!(byte, b'\'' | b'"') {
            return self.quote(before, byte);
        }
        self.apart = self.apart.and_then(|apart| apart.behind(byte));
        if byte == 0 {
            self.escaped = None;
            let prepares = self.ends_word(before, byte);
            self.may |= before;
            return prepares;
        }
        if byte == b'\\' {
            self.escaped.get_or_insert(before);
            return self.ends_word(before, byte);
        }
        // A byte above ASCII may be a blank to the server: it ends a word like any other sign.
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'$') {
            self.escaped = None;
            return self.ends_word(before, byte);
        }
        let letter = byte.to_ascii_lowercase();
        self.may = self.word(before, letter);
        match self.escaped.take() {
            Some(joined) if byte == b'0' => self.may |= START | joined,
            Some(_) if BLANKS.contains(&byte) => self.may |= START,
            Some(joined) => self.may |= self.word(joined, letter),
            None => {}
        }
        false
    }

    /// The end of a text or its beginning, which may be the same text's.
    fn quote(&mut self, before: u32, sign: u8) -> bool {
        self.escaped = None;
        let prepares = self.ends_word(before, sign);
        let apart = self.apart.unwrap_or(Apart {
            may: 0,
            comment: false,
        });
        self.may |= apart.may;
        self.apart = Some(Apart {
            may: before | apart.may,
            ..apart
        });
        prepares
    }

    /// After a sign that is no part of a word.
    fn ends_word(&mut self, before: u32, sign: u8) -> bool {
        let has = |bits: u32| before & bits != 0;
        let prepares = self.begun && has(PREPARED) || has(GLUED_PREPARED);
        self.may = START;
        match sign {
            b' ' | b'\t'..=b'\r' if has(GLUED_XA | GLUED_BLANK) => self.may |= GLUED_BLANK,
            b'/' | b'-' | b'#' if has(GLUED_XA | GLUED_BLANK) => self.begun = true,
            _ => {}
        }
        self.begun |= has(XA);
        prepares
    }

    /// After another letter or digit of a word.
    fn word(&self, before: u32, letter: u8) -> u32 {
        let has = |bits: u32| before & bits != 0;
        let mut may = 0;
        if letter.is_ascii_digit() {
            let digits = before & (DIGIT | DIGIT << 1 | DIGIT << 2 | DIGIT << 3);
            may |= digits << 1 | before & VERSION;
            may |= if has(START) { DIGIT } else { 0 };
        }
        match letter {
            b'x' if has(START | VERSION) => may |= X,
            b'a' if has(X) => may |= XA,
            b'p' if has(START | VERSION) => may |= P,
            _ => {}
        }
        may |= letters(before, P, letter);
        if self.lengths {
            may |= letters(before, GLUED_P, letter);
            match letter {
                b'x' => may |= GLUED_X,
                b'a' if has(GLUED_X) => may |= GLUED_XA,
                b'p' if has(GLUED_BLANK) => may |= GLUED_P,
                _ => {}
            }
        }
        may
    }
}

impl Apart {
    /// After another byte that is no quote.
    fn behind(self, byte: u8) -> Option<Self> {
        let comment = self.comment || matches!(byte, b'/' | b'-' | b'#');
        let apart = comment || byte.is_ascii_whitespace() || byte == b'\x0b';
        apart.then_some(Self { comment, ..self })
    }
}

/// The letters of PREPARE behind its first, whose bit this is.
fn letters(before: u32, first: u32, letter: u8) -> u32 {
    let mut may = 0;
    for (n, of_word) in PREPARE.iter().enumerate().skip(1) {
        if *of_word == letter && before & first << (n - 1) != 0 {
            may |= first << n;
        }
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepares(text: &str) -> bool {
        // In one piece and byte by byte.
        let whole = XaWatch::default().take(text.as_bytes());
        let mut watch = XaWatch::default();
        let bytewise = text.bytes().any(|byte| watch.take(&[byte]));
        assert_eq!(whole, bytewise, "{text}");
        whole
    }

    #[test]
    fn a_branch_is_not_prepared_however_it_is_spelled() {
        for text in [
            "XA PREPARE 'x'",
            "xa\tprepare'x'",
            "select 1;Xa /* a comment */ PREPARE 'x'",
            "/*!XA*/ -- a comment\nPREPARE 'x'",
            "XA/*!50000 PREPARE*/ 'x'",
            "XA\u{a0}PREPARE 'x'",
            "PREPARE p FROM 'XA PREPARE ''x'''",
            "XA /*!50000PREPARE*/ 'x'",
            "/*!50000XA*/ PREPARE 'x'",
            "/*!50000XA PREPARE*/ 'x'",
            "/*!50000XA*//*!50000PREPARE*/ 'x'",
            "/*!100000XA*/ /*!100000PREPARE*/ 'x'",
            "/*M!XA*/ /*M!50000PREPARE*/ 'x'",
            "/*M!100100XA*/ PREPARE 'x'",
            "/*!00000XA*/ PREPARE 'x'",
            "/*! XA */ /*!PREPARE*/ 'x'",
            // Not executed by any server of today, and refused all the same.
            "XA /*!99999PREPARE*/ 'x'",
        ] {
            for text in [text.to_owned(), text.to_lowercase(), text.to_uppercase()] {
                assert!(prepares(&text), "{text}");
            }
        }
    }

    #[test]
    fn a_backslash_is_read_in_every_way() {
        for text in [
            r"EXECUTE IMMEDIATE '\nXA PREPARE ''x'''",
            r"'\r\tXA\n\tPREPARE\r\n''x'''",
            r"'\0XA\bPREPARE\Z'",
            r"'\XA \PREPARE ''x'''",
            r"'\X\A P\RE\PARE ''x'''",
            r"'\\nXA PREPARE\\n'",
            r"'XA\nPREPARE\''x'",
            r"'\'XA PREPARE \'x'",
        ] {
            assert!(prepares(text), "{text}");
        }
        for text in [
            r"'\nXAM PREPARE '",
            r"'\qXA PREPARE '",
            r"'\nXA\nPREPARED '",
        ] {
            assert!(!prepares(text), "{text}");
        }
    }

    #[test]
    fn a_word_goes_on_behind_a_zero_and_in_the_text_beside() {
        for text in [
            r"EXECUTE IMMEDIATE _utf16'\0X\0A\0 \0P\0R\0E\0P\0A\0R\0E\0 \0\'\0x\0\''",
            "EXECUTE IMMEDIATE _utf16le'X\0A\0 \0P\0R\0E\0P\0A\0R\0E\0 \0'",
            "EXECUTE IMMEDIATE _utf32'\0\0\0X\0\0\0A\0\0\0 \0\0\0P\0\0\0R\0\0\0E\0\0\0P\0\0\0A\0\0\0R\0\0\0E\0\0\0 '",
            "EXECUTE IMMEDIATE 'XA PRE' 'PARE ''x'''",
            "EXECUTE IMMEDIATE 'X'\n'A PREP' '' \"ARE 'x'\"",
            "EXECUTE IMMEDIATE 'XA P' /* it's nothing */ 'REPARE' -- x\n ' ''x'''",
        ] {
            assert!(prepares(text), "{text}");
        }
        for text in [
            "INSERT INTO t VALUES ('x', 'a'); PREPARE p FROM 'SELECT 1'",
            "SELECT 'XA', 'pre', 'pare '",
            "SELECT 'XA' AS p, 'repare '",
        ] {
            assert!(!prepares(text), "{text}");
        }
    }

    #[test]
    fn a_value_has_its_length_before_it() {
        let by = |command, text: &str| XaWatch::of(command).take(text.as_bytes());
        for text in [
            "aXA PREPARE 'x'",
            "0XA/**/PREPARE 'x'",
            "zxa \n\tprepare 'x'",
            "_XA # x\nPREPARE 'x'",
        ] {
            for command in [
                command::EXECUTE,
                command::SEND_LONG_DATA,
                command::BULK_EXECUTE,
            ] {
                assert!(by(command, text), "{text}");
            }
            assert!(!by(command::QUERY, text), "{text}");
        }
        for text in [
            "Ask Alexa to prepare dinner.",
            "taxa prepared ",
            "aXA preparePREPARE ",
        ] {
            assert!(!by(command::EXECUTE, text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        for text in [
            "XA START 'x'",
            "XA COMMIT 'x' ONE PHASE",
            "SELECT xa, prepared FROM t",
            "SELECT xa_prepare FROM xap",
            "PREPARE p FROM 'SELECT 1'",
            "SELECT prepare, xa FROM t",
            "SELECT 0xA, prepare FROM t",
            "SELECT xa, 1prepare FROM t",
        ] {
            assert!(!prepares(text), "{text}");
        }
    }
}
