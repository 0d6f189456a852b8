//! What the demo says: headlines, lines, and how long each step took. Colours on a terminal only.

use std::io::IsTerminal as _;
use tokio::time::Instant;

/// Of a step's words, so that its time ends at column 80.
const TEXT_WIDTH: usize = 69;

/// A part of the story.
pub(crate) fn headline(text: &str) {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        println!("\n\x1b[1m{text}\x1b[0m");
    } else {
        println!("\n{text}");
    }
}

/// A line under a headline.
pub(crate) fn line(text: &str) {
    println!("{}", format!("  {text}").trim_end());
}

/// Several lines, each indented.
pub(crate) fn lines(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Breaks a text at its spaces; the lines after the first are indented.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut current = String::new();
    for word in text.split(' ') {
        if current.trim().is_empty() || current.chars().count() + 1 + word.chars().count() <= width
        {
            if !current.trim().is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        } else {
            lines.push(std::mem::replace(&mut current, format!("  {word}")));
        }
    }
    lines.push(current);
    lines
}

/// Times the steps of a story.
pub(crate) struct Clock {
    began: Instant,
    last: Instant,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
        }
    }

    /// Says what was done and how long it took since the step before.
    pub(crate) fn done(&mut self, what: &str) {
        let now = Instant::now();
        let took = now.duration_since(self.last).as_secs_f64();
        let wrapped = wrap(what, TEXT_WIDTH);
        for (at, part) in wrapped.iter().enumerate() {
            if at + 1 == wrapped.len() {
                println!("  {part:<TEXT_WIDTH$} {took:>6.1} s");
            } else {
                println!("  {part}");
            }
        }
        self.last = now;
    }

    /// Seconds since the start.
    pub(crate) fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_of_a_step_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "  three"]);
        assert_eq!(wrap("a-word-too-long b", 7), ["a-word-too-long", "  b"]);
        assert_eq!(wrap("", 7), [""]);
    }
}
