//! Checks and figures, printed at the end.

use std::time::Duration;

/// What held and what did not.
#[derive(Debug, Default)]
pub struct Summary {
    checks: Vec<(bool, String)>,
    figures: Vec<(String, String)>,
}

impl Summary {
    /// Notes whether something held.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) {
        self.checks.push((holds, what.into()));
    }

    /// Notes a figure.
    pub fn figure(&mut self, what: &str, value: impl Into<String>) {
        self.figures.push((what.to_string(), value.into()));
    }

    /// Prints it all and answers whether every check held.
    pub fn print(&self) -> bool {
        println!("\n── Summary ─────────────────────────────────────────────────────────");
        for (what, value) in &self.figures {
            println!("  {what:<34} {value}");
        }
        println!();
        for (holds, what) in &self.checks {
            println!("  {} {what}", if *holds { "✓" } else { "✗" });
        }
        let failed = self.checks.iter().filter(|(holds, _)| !holds).count();
        match failed {
            0 => println!("\n  All {} checks hold.", self.checks.len()),
            failed => println!("\n  {failed} of {} checks do not hold.", self.checks.len()),
        }
        failed == 0 && !self.checks.is_empty()
    }
}

/// A duration in seconds.
pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
