//! What the demo says: headlines, lines, and how long each step took. Colours on a terminal only.

use std::io::IsTerminal as _;
use tokio::time::Instant;

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
    println!("  {text}");
}

/// Several lines, each indented.
pub(crate) fn lines(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
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
        println!(
            "  {what:<84} {:>6.1} s",
            now.duration_since(self.last).as_secs_f64()
        );
        self.last = now;
    }

    /// Seconds since the start.
    pub(crate) fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
