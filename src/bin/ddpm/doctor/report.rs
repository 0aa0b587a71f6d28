//! What the checks found, in words and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How much a finding matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know, or not checked.
    Note,
    /// Likely wrong, or a limit that hurts.
    Warning,
    /// Wrong: the pictures will be, or nothing runs.
    Fault,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that a check found.
#[derive(Debug)]
pub struct Finding {
    check: &'static str,
    severity: Severity,
    found: String,
    /// What to do about it; empty where nothing is to be done.
    advice: String,
    /// What was measured, for programs.
    figures: Option<Value>,
}

/// All findings about one model, in the order of the checks.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) -> &mut Self {
        self.push(check, Severity::Ok, found, "")
    }

    pub fn note(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> &mut Self {
        self.push(check, Severity::Note, found, advice)
    }

    pub fn warning(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> &mut Self {
        self.push(check, Severity::Warning, found, advice)
    }

    pub fn fault(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> &mut Self {
        self.push(check, Severity::Fault, found, advice)
    }

    pub fn push(
        &mut self,
        check: &'static str,
        severity: Severity,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> &mut Self {
        let (found, advice) = (found.into(), advice.into());
        self.findings.push(Finding { check, severity, found, advice, figures: None });
        self
    }

    /// Adds what was measured to the last finding.
    pub fn with(&mut self, figures: Value) {
        if let Some(last) = self.findings.last_mut() {
            last.figures = Some(figures);
        }
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    pub fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.check,
                "severity": finding.severity.name(),
                "finding": finding.found,
                "advice": finding.advice,
                "figures": finding.figures,
            })
        });
        findings.collect()
    }

    /// One line for each finding, its advice below it, and the sum.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { check, severity, found, advice, .. } in &self.findings {
            // Writing to a string does not fail.
            let _ = write!(text, "\n  {:8} {check:11} {found}", severity.name());
            if !advice.is_empty() {
                let _ = write!(text, "\n  {:8} {:11} {advice}", "", "");
            }
        }
        let number = |count: usize, what: &str| match count {
            0 => format!("no {what}s"),
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let faults = number(self.count(Severity::Fault), "fault");
        let warnings = number(self.count(Severity::Warning), "warning");
        let _ = write!(text, "\n  {faults}, {warnings}");
        text
    }
}
