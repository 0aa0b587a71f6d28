//! The curves of a run, loss and learning rate over the steps, as SVG and as PNG.

use std::fmt::Write as _;

use std::path::Path;

use anyhow::Result;

use crate::canvas::{BLACK, Canvas, Rgb};
use crate::loss_log::Row;
use crate::output::write_atomically;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
/// Top and height of the two charts, and the height of all.
const LOSS: (f64, f64) = (28.0, 260.0);
const RATE: (f64, f64) = (328.0, 80.0);
const HEIGHT: f64 = 440.0;
/// Points of a curve, at most: each is the mean of a window of steps.
const POINTS: usize = 300;

const BLUE: Rgb = [0, 102, 204];
const ORANGE: Rgb = [204, 102, 0];
const GRAY: Rgb = [221; 3];

/// What is drawn, in the coordinates of the SVG.
enum Shape {
    Line(Vec<(f64, f64)>, Rgb, f64),
    /// Ends at x where `end`, else its middle is there; y is its baseline.
    Text {
        x: f64,
        y: f64,
        end: bool,
        text: String,
    },
}

/// Writes the curves of a run to both files; the loss on a logarithmic axis.
pub fn write(svg: &Path, png: &Path, rows: &[Row]) -> Result<()> {
    let shapes = shapes(rows);
    write_atomically(svg, as_svg(&shapes).as_bytes())?;
    as_canvas(&shapes).write(png)
}

fn shapes(rows: &[Row]) -> Vec<Shape> {
    let window = rows.len().div_ceil(POINTS).max(1);
    let last = rows.last().map_or(1, |row| row.step);
    let x = |step: f64| LEFT + step / last.max(1) as f64 * (WIDTH - LEFT - RIGHT);
    let means = |value: fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        let mean = |values: Vec<(f64, f64)>| {
            let count = values.len() as f64;
            let sum = values.iter().fold((0.0, 0.0), |sum, v| (sum.0 + v.0, sum.1 + v.1));
            (count > 0.0).then(|| (x(sum.0 / count), sum.1 / count))
        };
        let known = |row: &Row| Some((row.step as f64, value(row)?));
        rows.chunks(window).filter_map(|c| mean(c.iter().filter_map(known).collect())).collect()
    };
    let mut shapes = Vec::new();

    let losses: Vec<(f64, f64)> = means(|row| Some(row.loss))
        .into_iter()
        .map(|(x, loss)| (x, loss.max(1e-12).log10()))
        .collect();
    let low = losses.iter().map(|p| p.1).fold(0.0, f64::min);
    let high = losses.iter().map(|p| p.1).fold(low + 0.1, f64::max);
    let height = |log: f64| LOSS.0 + (high - log) / (high - low) * LOSS.1;
    for exponent in low.floor() as i32..=high.ceil() as i32 {
        for mantissa in [1.0, 2.0, 5.0] {
            let value: f64 = mantissa * 10f64.powi(exponent);
            // Between many powers of ten only those are named.
            if (low..=high).contains(&value.log10()) && (mantissa == 1.0 || high - low < 3.0) {
                mark(&mut shapes, height(value.log10()), short(value));
            }
        }
    }
    shapes.push(Shape::Line(losses.iter().map(|p| (p.0, height(p.1))).collect(), BLUE, 1.5));
    title(&mut shapes, LOSS.0, format!("loss, mean of {window}"));

    let rates = means(|row| row.learning_rate);
    let top = rates.iter().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
    let height = |rate: f64| RATE.0 + (1.0 - rate / top) * RATE.1;
    mark(&mut shapes, height(0.0), "0".to_string());
    if !rates.is_empty() {
        mark(&mut shapes, height(top), short(top));
        shapes.push(Shape::Line(rates.iter().map(|p| (p.0, height(p.1))).collect(), ORANGE, 1.5));
    }
    title(&mut shapes, RATE.0, "learning rate".to_string());

    for (x, text) in [(LEFT, "0".to_string()), (WIDTH - RIGHT - 12.0, last.to_string())] {
        shapes.push(Shape::Text { x, y: HEIGHT - 12.0, end: false, text });
    }
    shapes.push(Shape::Text { x: WIDTH / 2.0, y: HEIGHT - 12.0, end: false, text: "step".into() });
    shapes
}

/// A line across with its value.
fn mark(shapes: &mut Vec<Shape>, y: f64, text: String) {
    shapes.push(Shape::Line(vec![(LEFT, y), (WIDTH - RIGHT, y)], GRAY, 1.0));
    shapes.push(Shape::Text { x: LEFT - 6.0, y: y + 4.0, end: true, text });
}

fn title(shapes: &mut Vec<Shape>, top: f64, text: String) {
    shapes.push(Shape::Text { x: WIDTH / 2.0, y: top - 10.0, end: false, text });
}

/// A number of few digits.
fn short(value: f64) -> String {
    if (1e-3..1e4).contains(&value) {
        let text = format!("{value:.4}");
        return text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    format!("{value:.1e}").replace(".0e", "e")
}

fn as_svg(shapes: &[Shape]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for shape in shapes {
        let _ = match shape {
            Shape::Line(points, [r, g, b], width) => {
                let points: Vec<String> =
                    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                writeln!(
                    svg,
                    "<polyline fill=\"none\" stroke=\"#{r:02x}{g:02x}{b:02x}\" \
                     stroke-width=\"{width}\" points=\"{}\"/>",
                    points.join(" ")
                )
            }
            Shape::Text { x, y, end, text } => {
                let anchor = if *end { "end" } else { "middle" };
                writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
                )
            }
        };
    }
    svg.push_str("</svg>\n");
    svg
}

/// The same at twice the size, with the canvas's own letters.
fn as_canvas(shapes: &[Shape]) -> Canvas {
    const SCALE: f64 = 2.0;
    const LETTERS: i64 = 3;
    let mut canvas = Canvas::new((WIDTH * SCALE) as usize, (HEIGHT * SCALE) as usize);
    for shape in shapes {
        match shape {
            Shape::Line(points, color, width) => {
                let thickness = (width * SCALE).round() as i64;
                for pair in points.windows(2) {
                    let [from, to] = [pair[0], pair[1]].map(|(x, y)| (x * SCALE, y * SCALE));
                    canvas.line(from, to, thickness, *color);
                }
            }
            Shape::Text { x, y, end, text } => {
                let width = Canvas::text_width(text, LETTERS);
                let left = (x * SCALE) as i64 - if *end { width } else { width / 2 };
                let top = (y * SCALE) as i64 - 5 * LETTERS;
                canvas.text(left, top, text, LETTERS, BLACK);
            }
        }
    }
    canvas
}
