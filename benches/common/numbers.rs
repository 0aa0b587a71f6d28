//! Figures of many times, and rows of Markdown tables.

use std::time::Duration;

/// Times of the same thing, in one unit of the caller's choice.
#[derive(Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub fn push(&mut self, time: f64) {
        self.0.push(time);
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of them stays below; 1 is the longest. NaN for none.
    pub fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable_by(f64::total_cmp);
        let index = (self.0.len() as f64 * share) as usize;
        let last = self.0.len().saturating_sub(1);
        self.0.get(index.min(last)).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&mut self) -> f64 {
        self.at(0.5)
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A heading of a table: the first column is text, the others numbers.
pub fn heading(columns: &[&str]) {
    let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    row(&columns);
    println!("| --- |{}", " ---: |".repeat(columns.len() - 1));
}

pub fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}
