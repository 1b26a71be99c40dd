//! Figures with what they were measured under.

use serde_json::{Value, json};

/// One line of a report.
#[derive(Debug)]
struct Figure {
    section: String,
    what: String,
    value: f64,
    unit: &'static str,
    note: String,
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
    pub fn fact(&mut self, what: &str, value: impl Into<String>) {
        self.facts.push((what.into(), value.into()));
    }

    /// Notes a figure.
    pub fn figure(
        &mut self,
        section: &str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        note: impl Into<String>,
    ) {
        let figure = Figure { section: section.into(), what: what.into(), value, unit, note: note.into() };
        eprintln!("  {}: {} {} {}  {}", figure.section, figure.what, number(value), unit, figure.note);
        self.figures.push(figure);
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
            println!("  {:<36} {:>12} {:<9} {}", figure.what, number(figure.value), figure.unit, figure.note);
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
                json!({
                    "section": figure.section,
                    "what": figure.what,
                    "value": figure.value,
                    "unit": figure.unit,
                    "note": figure.note,
                })
            })
            .collect();
        json!({ "facts": facts, "figures": figures })
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
