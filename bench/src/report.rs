//! Figures with what they were measured under.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// What was measured in each round, and over all of them how long single statements took.
#[derive(Debug)]
struct Figure {
    section: String,
    what: String,
    unit: &'static str,
    /// One value a round, in the order of measurement.
    rounds: Vec<f64>,
    /// Microseconds.
    latency: Option<Histogram<u64>>,
    note: String,
}

impl Figure {
    /// The least, the middle and the largest of the rounds.
    fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(largest)) => (*least, middle(&sorted), *largest),
            _ => (0.0, 0.0, 0.0),
        }
    }
}

/// The median of what is sorted: of an even number, the mean of the two in the middle.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Everything that one call measured.
#[derive(Debug, Default)]
pub struct Report {
    facts: Vec<(String, String)>,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what the figures hold for.
    pub fn fact(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.facts.push((what.into(), value.into()));
    }

    /// Notes a figure, with one value for each round.
    pub fn figure(
        &mut self,
        section: &str,
        what: impl Into<String>,
        unit: &'static str,
        rounds: Vec<f64>,
        note: impl Into<String>,
    ) {
        let (section, what, note) = (section.to_string(), what.into(), note.into());
        self.figures.push(Figure { section, what, unit, rounds, latency: None, note });
    }

    /// Notes how many statements ran in a second, and how long each took (microseconds, all rounds together).
    pub fn rates(&mut self, section: &str, what: impl Into<String>, rounds: Vec<f64>, latency: Histogram<u64>) {
        let (section, what) = (section.to_string(), what.into());
        let (unit, note) = ("1/s", String::new());
        self.figures.push(Figure { section, what, unit, rounds, latency: Some(latency), note });
    }

    /// The report as text.
    pub fn print(&self) {
        for (what, value) in &self.facts {
            println!("{what:<12} {value}");
        }
        let mut section = "";
        for figure in &self.figures {
            if figure.section != section {
                section = &figure.section;
                println!("\n{section}");
            }
            println!("{}", line(figure));
        }
    }

    /// The report as one JSON value.
    pub fn json(&self) -> Value {
        let facts: serde_json::Map<_, _> =
            self.facts.iter().map(|(what, value)| (what.clone(), json!(value))).collect();
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|figure| {
                let (least, median, largest) = figure.spread();
                let latency = figure.latency.as_ref().map(|times| {
                    json!({
                        "p50": ms(times, 0.5),
                        "p99": ms(times, 0.99),
                        "p99.9": ms(times, 0.999),
                        "max": times.max() as f64 / 1e3,
                        "samples": times.len(),
                    })
                });
                json!({
                    "section": figure.section,
                    "what": figure.what,
                    "unit": figure.unit,
                    "median": median,
                    "min": least,
                    "max": largest,
                    "rounds": figure.rounds,
                    "latency_ms": latency,
                    "note": figure.note,
                })
            })
            .collect();
        json!({ "facts": facts, "figures": figures })
    }
}

fn line(figure: &Figure) -> String {
    let (least, median, largest) = figure.spread();
    let spread = match figure.rounds.len() {
        0 | 1 => String::new(),
        _ => format!("{} .. {}", number(least), number(largest)),
    };
    let more = match &figure.latency {
        Some(times) => format!(
            "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.1} ms, max {:.0} ms",
            ms(times, 0.5),
            ms(times, 0.99),
            ms(times, 0.999),
            times.max() as f64 / 1e3
        ),
        None => figure.note.clone(),
    };
    format!("  {:<38} {:>8} {:<7} {spread:<18} {more}", figure.what, number(median), figure.unit).trim_end().to_string()
}

fn ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// As many digits as mean something.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_by_their_median_and_spread() {
        let mut report = Report::new();
        report.figure("Section", "odd", "s", vec![3.0, 1.0, 2.0], "");
        report.figure("Section", "even", "s", vec![4.0, 1.0, 2.0, 3.0], "");
        report.figure("Section", "once", "MiB", vec![54.0], "resident");
        let figures = report.json()["figures"].clone();
        assert_eq!(
            (&figures[0]["median"], &figures[0]["min"], &figures[0]["max"]),
            (&json!(2.0), &json!(1.0), &json!(3.0))
        );
        assert_eq!(figures[1]["median"], 2.5);
        assert!(line(&report.figures[0]).contains("1.00 .. 3.00"));
        assert!(!line(&report.figures[2]).contains(".."), "one round has no spread");
    }

    #[test]
    fn percentiles_come_from_every_sample() {
        let mut times = Histogram::new(3).unwrap();
        (1..=1_000).for_each(|ms| times.record(ms * 1_000).unwrap());
        let mut report = Report::new();
        report.rates("Section", "insert", vec![100.0, 300.0, 200.0], times);
        let latency = report.json()["figures"][0]["latency_ms"].clone();
        assert_eq!(latency["samples"], 1_000);
        assert!((latency["p99"].as_f64().unwrap() - 990.0).abs() < 1.0, "{latency}");
        assert!((latency["max"].as_f64().unwrap() - 1_000.0).abs() < 1.0, "{latency}");
    }
}
