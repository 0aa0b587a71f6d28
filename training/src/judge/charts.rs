//! Line charts as SVG, to be put into a page.

use std::fmt::Write as _;

use super::report::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 160.0;
const MARGIN: f64 = 40.0;
const COLOURS: [&str; 8] =
    ["#0066cc", "#cc3300", "#2a8a2a", "#8a2be2", "#b8860b", "#008b8b", "#d02090", "#555555"];

/// A line of a chart.
pub struct Line {
    pub name: String,
    /// (x, y), both above 0; others are left out.
    pub points: Vec<(f64, f64)>,
}

/// A level across a chart.
pub struct Level {
    pub name: String,
    pub y: f64,
}

/// A chart with both axes logarithmic. Empty where no point can be shown.
pub fn chart(x_name: &str, y_name: &str, lines: &[Line], levels: &[Level]) -> String {
    let shown = |value: f64| value > 0.0 && value.is_finite();
    let points = || lines.iter().flat_map(|line| &line.points).filter(|p| shown(p.0) && shown(p.1));
    let xs: Vec<f64> = points().map(|p| p.0.log10()).collect();
    let levels: Vec<&Level> = levels.iter().filter(|level| shown(level.y)).collect();
    let ys: Vec<f64> =
        points().map(|p| p.1.log10()).chain(levels.iter().map(|l| l.y.log10())).collect();
    if xs.is_empty() {
        return String::new();
    }
    let range = |values: &[f64], least: f64| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let more = (least - (high - low)).max(0.04 * (high - low)) / 2.0;
        (low - more, high + more)
    };
    let ((x0, x1), (y0, y1)) = (range(&xs, 0.3), range(&ys, 0.3));
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - MARGIN - (v - y0) / (y1 - y0) * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    for value in ticks(y0, y1) {
        let (at, end) = (y(value.log10()), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut steps: Vec<f64> = points().map(|p| p.0).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    for value in steps {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{value}</text>",
            x(value.log10()),
            HEIGHT - MARGIN + 16.0
        );
    }
    for level in levels {
        let (at, end) = (y(level.y.log10()), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#888\" \
             stroke-dasharray=\"5 4\"/><text x=\"{:.0}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
            end + 6.0,
            at + 4.0,
            escape(&level.name)
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter(|p| shown(p.0) && shown(p.1))
            .map(|p| (x(p.0.log10()), y(p.1.log10())))
            .collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{}</text>",
            LEFT + 90.0 * (index % 6) as f64,
            14.0 + 14.0 * (index / 6) as f64,
            escape(&line.name)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\
         <text x=\"14\" y=\"{:.0}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.0})\">{}</text>\n\
         </svg>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(x_name),
        HEIGHT / 2.0,
        HEIGHT / 2.0,
        escape(y_name)
    );
    svg
}

/// Round values between two logarithms.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.floor() as i32..=high.floor() as i32;
    let values = exponents.flat_map(|e| {
        [1.0, 2.0, 5.0].map(|m: f64| if e < 0 { m / 10f64.powi(-e) } else { m * 10f64.powi(e) })
    });
    values.filter(|value| (low..=high).contains(&value.log10())).collect()
}
