//! Keeps a client from leaving a prepared XA branch behind: it has neither a connection nor an account, so its locks
//! outlive the window and any later grant could commit it.
//!
//! Looks for the words XA and PREPARE, in this order, anywhere in one command or in the local data of one, comments and
//! texts included: what lies between words differs by server and character set, and a statement that holds both without
//! meaning it is rare. MySQL takes XA in no prepared statement (error 1295), so a text that is put together on the server
//! cannot get around this; MariaDB does take it (`docs/database.md`).

/// Longest word that matters.
const LONGEST: usize = 7;
/// A version's digits stand before a word without a blank in `/*!50000XA*/`, `/*M!100100XA*/`: five or six. A word that
/// begins with fewer is another one (`0xA`).
const VERSION: usize = 5;

/// Follows the words of one command.
#[derive(Debug, Default, Clone)]
pub(super) struct XaWatch {
    /// Digits that the word begins with.
    digits: usize,
    /// The word that the bytes so far end with, behind its digits, in lower case; longer ones are cut to one byte too many.
    word: Vec<u8>,
    begun: bool,
}

impl XaWatch {
    /// Takes the command's next bytes; true when they prepare an XA branch.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            // A byte above ASCII may be a blank to the server: it ends a word like any other sign.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') {
                if byte.is_ascii_digit() && self.word.is_empty() {
                    self.digits = self.digits.saturating_add(1);
                } else if self.word.len() <= LONGEST {
                    self.word.push(byte.to_ascii_lowercase());
                }
                continue;
            }
            let whole = self.digits == 0 || self.digits >= VERSION;
            match self.word.as_slice() {
                b"xa" if whole => self.begun = true,
                b"prepare" if whole && self.begun => return true,
                _ => {}
            }
            self.digits = 0;
            self.word.clear();
        }
        false
    }
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
