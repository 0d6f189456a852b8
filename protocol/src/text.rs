//! Texts that people chose and other people read: which characters change what is seen without being seen.
//!
//! Owns one list, so that what control lets into a request and what the auditor's command prints are judged alike.
//! Never changes a text itself: whether a character is dropped, replaced or refused is the caller's decision.

/// Whether this character is not seen itself: a control character, or one that turns the direction of a text, joins or
/// parts letters, breaks lines, or shows nothing at all. With such a character a text can show as another one.
///
/// Unicode's general categories Cc, Cf, Zl and Zp, and what is in `Default_Ignorable_Code_Point` besides. Emoji that
/// are joined or coloured by such characters fall apart into their parts.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{ffa0}' // joiner, fillers
            | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' // zero width; marks of direction
            | '\u{2028}'..='\u{202e}' // line and paragraph; embeddings and overrides of direction
            | '\u{2060}'..='\u{206f}' // word joiner; isolates of direction
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_joins_or_hides_letters_is_unseen() {
        for range in [
            '\u{202a}'..='\u{202e}',
            '\u{2066}'..='\u{2069}',
            '\u{200b}'..='\u{200f}',
            '\u{61c}'..='\u{61c}',
            '\u{feff}'..='\u{feff}',
            '\u{0}'..='\u{1f}',
            '\u{7f}'..='\u{9f}',
            '\u{e0020}'..='\u{e007f}',
        ] {
            for c in range {
                assert!(is_unseen(c), "U+{:04X}", u32::from(c));
            }
        }
    }

    #[test]
    fn letters_digits_marks_and_spaces_of_every_script_are_seen() {
        let text = "reparatur Änderung №7 – naïve e\u{301}, заказ, 注文 修復, تصحيح, תיקון, 주문, क्रम, 🙂\u{3000}\u{a0}";
        for c in text.chars() {
            assert!(!is_unseen(c), "U+{:04X}", u32::from(c));
        }
    }
}
