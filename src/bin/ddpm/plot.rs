//! `ddpm plot`: a noise schedule, and where samplers visit it.

use std::path::PathBuf;

use clap::Args;
use ddpm::error::{Error, Result};
use ddpm::model::ModelConfig;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::sampler::{SamplerConfig, step_table};

use crate::chart::{Anchor, Chart, Ink, SERIES};
use crate::model_options::{Console, ModelOptions};
use crate::output::Output;
use crate::sampler_options::{SamplerName, SamplerOptions};
use crate::{describe, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Plot {
    /// The model whose schedule is drawn; without it the one that the flags say
    model: Option<PathBuf>,
    /// The drawing, .svg
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A sampler, by a name that `ddpm samplers` lists; again for more of them
    #[arg(long, value_name = "NAME")]
    sampler: Vec<SamplerName>,
    #[command(flatten)]
    options: SamplerOptions,
    #[command(flatten)]
    model_options: ModelOptions,
}

const AFTER_HELP: &str = "\
Examples:
  ddpm plot --sampler dpmpp-2m --steps 20 --sigmas karras -o plot.svg
  ddpm plot --sampler ddim --sampler euler --steps 10 --beta-schedule squaredcos_cap_v2 -o plot.svg
  ddpm plot model.onnx -o plot.svg

Shows alphas_cumprod and sigma = sqrt((1 - alpha_bar) / alpha_bar) over the training timesteps, with a
dot on both for each evaluation of the model. Only with a MODEL is ONNX Runtime needed.";

/// A sampler's rows: what is marked.
struct Series {
    text: String,
    /// (t, alpha_bar) of each model evaluation.
    marks: Vec<(f64, f64)>,
}

impl Plot {
    pub fn execute(self, console: Console) -> Result<()> {
        let output = Output::new(&self.output, &["svg"], &[])?;
        if self.sampler.len() > SERIES {
            return Err(Error::invalid_argument(format!(
                "sampler: found {} of them, expected at most {SERIES}",
                self.sampler.len()
            )));
        }
        let model = match &self.model {
            Some(path) => self.model_options.load(path, console.logger())?.info.model,
            None => self.model_options.without_a_file(&console.logger())?,
        };
        let names = if self.sampler.is_empty() {
            vec![None]
        } else {
            self.sampler.iter().copied().map(Some).collect()
        };
        let schedule = model.noise_schedule()?;
        let series = names
            .into_iter()
            .map(|name| series(&schedule, &model, &self.options.config(name, &model)?))
            .collect::<Result<Vec<_>>>()?;
        output.write(draw(&schedule, &describe::schedule_text(&model), &series).as_bytes())?;
        let texts: Vec<&str> = series.iter().map(|series| &*series.text).collect();
        print(&format!("{}: {}", output.path().display(), texts.join("; ")))
    }
}

fn series(schedule: &NoiseSchedule, model: &ModelConfig, config: &SamplerConfig) -> Result<Series> {
    let table = step_table(schedule, model.prediction_type, config)?;
    let marks = table.rows().iter().map(|row| {
        // Run backwards, a step starts below the level that the model is asked at.
        let alpha_bar = match config.kind.is_inverse() {
            true => 1.0 / (1.0 + schedule.sigma_at(row.timestep).powi(2)),
            false => row.alpha_cumprod,
        };
        (row.timestep, alpha_bar)
    });
    Ok(Series { text: describe::sampler_text(config), marks: marks.collect() })
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 240.0;
const GAP: f64 = 34.0;
/// One sampler's line of ticks, with its name above.
const STRIP: f64 = 46.0;

/// The curve is drawn through as many points at most.
const CURVE_POINTS: usize = 400;

/// A rectangle with t to the right, and a value upwards.
struct Panel {
    top: f64,
    last_t: f64,
    low: f64,
    high: f64,
}

impl Panel {
    fn x(&self, t: f64) -> f64 {
        LEFT + t / self.last_t.max(1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Values beyond the panel, infinity for one, are at its edge.
    fn y(&self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        self.top + PANEL * (1.0 - share)
    }

    fn draw(
        &self,
        chart: &mut Chart,
        label: &str,
        ticks: &[(f64, String)],
        curve: &[(f64, f64)],
        series: &[Series],
        value: impl Fn(f64) -> f64,
    ) {
        let (left, right) = (LEFT, WIDTH - RIGHT);
        for (at, text) in ticks {
            let y = self.y(*at);
            chart.line(Ink::Grid, (left, y), (right, y), 1.0);
            chart.text(Ink::Faint, Anchor::End, (left - 8.0, y + 4.0), 12.0, text);
        }
        for t in timestep_ticks(self.last_t) {
            let x = self.x(t);
            chart.line(Ink::Grid, (x, self.top), (x, self.top + PANEL), 1.0);
        }
        chart.frame(Ink::Axis, (left, self.top), (right - left, PANEL));
        chart.upright_text(Ink::Text, (20.0, self.top + PANEL / 2.0), 13.0, label);
        let points: Vec<_> =
            curve.iter().map(|&(t, alpha_bar)| (self.x(t), self.y(value(alpha_bar)))).collect();
        chart.polyline(Ink::Curve, &points);
        let count = series.len();
        for (index, series) in series.iter().enumerate() {
            // Those of one sampler that lie on another's show as a ring around them.
            let radius = if series.marks.len() > 60 { 1.8 } else { 3.2 };
            let radius = radius + 1.5 * (count - 1 - index) as f64;
            for (k, &(t, alpha_bar)) in series.marks.iter().enumerate() {
                let sigma = ((1.0 - alpha_bar) / alpha_bar).sqrt();
                let t_shown = (t * 1e3).round() / 1e3;
                let tip = format!(
                    "step {k}: t = {t_shown}, alpha_bar = {alpha_bar:.4e}, sigma = {sigma:.4e}"
                );
                let at = (self.x(t), self.y(value(alpha_bar)));
                chart.dot(Ink::Series(index), at, radius, &tip);
            }
        }
    }
}

fn draw(schedule: &NoiseSchedule, schedule_text: &str, series: &[Series]) -> String {
    let alphas_cumprod = schedule.alphas_cumprod();
    let last_t = (alphas_cumprod.len() - 1) as f64;
    let stride = alphas_cumprod.len().div_ceil(CURVE_POINTS);
    let mut curve: Vec<(f64, f64)> = alphas_cumprod
        .iter()
        .enumerate()
        .step_by(stride)
        .map(|(t, &alpha_bar)| (t as f64, alpha_bar))
        .collect();
    curve.extend(alphas_cumprod.last().map(|&alpha_bar| (last_t, alpha_bar)));

    let height = TOP + 2.0 * PANEL + GAP + 36.0 + STRIP * series.len() as f64 + 34.0;
    let mut chart = Chart::new(WIDTH, height, &format!("Noise schedule: {schedule_text}"));
    chart.text(Ink::Text, Anchor::Start, (LEFT, 28.0), 17.0, "Noise schedule and timesteps");
    chart.text(Ink::Faint, Anchor::Start, (LEFT, 48.0), 13.0, schedule_text);

    let alphas = Panel { top: TOP, last_t, low: 0.0, high: 1.0 };
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|value| (value, value.to_string()));
    alphas.draw(&mut chart, "alphas_cumprod", &ticks, &curve, series, |alpha_bar| alpha_bar);

    let log_sigma = |alpha_bar: f64| 0.5 * ((1.0 - alpha_bar) / alpha_bar).log10();
    let marked = series.iter().flat_map(|series| &series.marks);
    let logs = curve.iter().chain(marked).map(|&(_, alpha_bar)| log_sigma(alpha_bar));
    let (low, high) = logs
        .filter(|log| log.is_finite())
        .fold((0.0, 0.0), |(low, high), log| (f64::min(low, log), f64::max(high, log)));
    let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
    let sigmas = Panel { top: TOP + PANEL + GAP, last_t, low, high };
    let decades = (low as i32..=high as i32).map(|power| {
        let text = if (-3..=3).contains(&power) {
            10f64.powi(power).to_string()
        } else {
            format!("1e{power}")
        };
        (f64::from(power), text)
    });
    let decades: Vec<_> = decades.collect();
    sigmas.draw(&mut chart, "sigma (logarithmic)", &decades, &curve, series, log_sigma);

    let mut y = sigmas.top + PANEL + 18.0;
    for t in timestep_ticks(last_t) {
        let text = t.to_string();
        chart.text(Ink::Faint, Anchor::Middle, (sigmas.x(t), y), 12.0, &text);
    }
    for (index, series) in series.iter().enumerate() {
        let ink = Ink::Series(index);
        chart.text(ink, Anchor::Start, (LEFT, y + 26.0), 13.0, &series.text);
        chart.line(Ink::Grid, (LEFT, y + 39.0), (WIDTH - RIGHT, y + 39.0), 1.0);
        for &(t, _) in &series.marks {
            let x = sigmas.x(t);
            chart.line(ink, (x, y + 33.0), (x, y + 45.0), 1.5);
        }
        y += STRIP;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    chart.text(Ink::Text, Anchor::Middle, (middle, y + 30.0), 13.0, "training timestep t");
    chart.finish()
}

/// Round timesteps from 0, about ten of them, and not more than the last.
fn timestep_ticks(last_t: f64) -> Vec<f64> {
    let rough = (last_t / 10.0).max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let stride = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|stride| *stride >= rough)
        .unwrap_or(rough);
    let count = (last_t / stride).floor() as usize;
    (0..=count).map(|i| i as f64 * stride).collect()
}
