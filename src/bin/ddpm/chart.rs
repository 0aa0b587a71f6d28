//! Drawing with SVG: shapes in a fixed set of inks, for a light and a dark background.
//!
//! This module must not know what is drawn.

use std::fmt::Write as _;

/// What a shape is drawn with. The attributes are for a light background, and for programs that know
/// no style sheets; the style sheet has the colours for a dark one.
#[derive(Clone, Copy)]
pub enum Ink {
    /// Words.
    Text,
    /// Words of less weight.
    Faint,
    /// Lines behind everything.
    Grid,
    /// The frame of a panel.
    Axis,
    /// The curve.
    Curve,
    /// A series; there are [`SERIES`] of them.
    Series(usize),
}

const BACKGROUND: (&str, &str) = ("#ffffff", "#0d1117");
const TEXT: (&str, &str) = ("#1f2328", "#e6edf3");
const FAINT: (&str, &str) = ("#59636e", "#9198a1");
const GRID: (&str, &str) = ("#d8dee4", "#2a313c");
const AXIS: (&str, &str) = ("#818b98", "#656c76");
const CURVE: (&str, &str) = ("#59636e", "#9198a1");
const SERIES_COLORS: [(&str, &str); SERIES] = [
    ("#0969da", "#58a6ff"),
    ("#cf222e", "#ff7b72"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#d2a8ff"),
    ("#bc4c00", "#ffa657"),
    ("#0e7c86", "#39c5cf"),
];

/// How many series can be told apart.
pub const SERIES: usize = 6;

impl Ink {
    fn colors(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => TEXT,
            Self::Faint => FAINT,
            Self::Grid => GRID,
            Self::Axis => AXIS,
            Self::Curve => CURVE,
            Self::Series(index) => SERIES_COLORS[index % SERIES],
        }
    }

    fn class(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Faint => "faint".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Curve => "curve".to_owned(),
            Self::Series(index) => format!("series{}", index % SERIES),
        }
    }
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under way.
pub struct Chart {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Chart {
    /// Empty; `title` is read out and shown by what displays the file.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: escaped(title), body: String::new() }
    }

    // Writing to a string does not fail.
    fn push(&mut self, shape: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(shape);
        self.body.push('\n');
    }

    pub fn text(&mut self, ink: Ink, anchor: Anchor, at: (f64, f64), size: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (class, fill, (x, y)) = (ink.class(), ink.colors().0, at);
        self.push(format_args!(
            r#"<text class="{class}-fill" x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{}</text>"#,
            escaped(text)
        ));
    }

    /// A text that runs upwards, centred at `at`.
    pub fn upright_text(&mut self, ink: Ink, at: (f64, f64), size: f64, text: &str) {
        let (class, fill, (x, y)) = (ink.class(), ink.colors().0, at);
        self.push(format_args!(
            r#"<text class="{class}-fill" transform="translate({x:.1} {y:.1}) rotate(-90)" font-size="{size}" text-anchor="middle" fill="{fill}">{}</text>"#,
            escaped(text)
        ));
    }

    pub fn line(&mut self, ink: Ink, from: (f64, f64), to: (f64, f64), width: f64) {
        let (class, stroke) = (ink.class(), ink.colors().0);
        self.push(format_args!(
            r#"<line class="{class}-stroke" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{stroke}" stroke-width="{width}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    pub fn frame(&mut self, ink: Ink, corner: (f64, f64), size: (f64, f64)) {
        let (class, stroke) = (ink.class(), ink.colors().0);
        self.push(format_args!(
            r#"<rect class="{class}-stroke" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="none" stroke="{stroke}"/>"#,
            corner.0, corner.1, size.0, size.1
        ));
    }

    pub fn polyline(&mut self, ink: Ink, points: &[(f64, f64)]) {
        let (class, stroke) = (ink.class(), ink.colors().0);
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(
            r#"<polyline class="{class}-stroke" fill="none" stroke="{stroke}" stroke-width="1.5" points="{}"/>"#,
            points.join(" ")
        ));
    }

    /// A dot with a text for who points at it.
    pub fn dot(&mut self, ink: Ink, at: (f64, f64), radius: f64, tip: &str) {
        let (class, fill) = (ink.class(), ink.colors().0);
        self.push(format_args!(
            r#"<circle class="{class}-fill" cx="{:.1}" cy="{:.1}" r="{radius}" fill="{fill}"><title>{}</title></circle>"#,
            at.0,
            at.1,
            escaped(tip)
        ));
    }

    pub fn finish(self) -> String {
        let Self { width, height, title, body } = self;
        let series = (0..SERIES).map(Ink::Series);
        let inks = [Ink::Text, Ink::Faint, Ink::Grid, Ink::Axis, Ink::Curve];
        let mut dark = format!(".background-fill{{fill:{}}}", BACKGROUND.1);
        for ink in inks.into_iter().chain(series) {
            let (class, color) = (ink.class(), ink.colors().1);
            let _ = write!(dark, ".{class}-fill{{fill:{color}}}.{class}-stroke{{stroke:{color}}}");
        }
        let light = BACKGROUND.0;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, sans-serif" role="img">
<title>{title}</title>
<style>@media (prefers-color-scheme: dark){{{dark}}}</style>
<rect class="background-fill" width="{width}" height="{height}" fill="{light}"/>
{body}</svg>
"#
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
