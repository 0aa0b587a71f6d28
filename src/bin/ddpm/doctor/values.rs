//! The values that come out: on noise, over all timesteps, in a short run, and how fast.

use std::time::Instant;

use ddpm::error::{ErrorKind, Result};
use ddpm::prediction::PredictionType;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};
use serde_json::{Value, json};

use super::inputs::one_line;
use super::probe::{Probe, all_finite, deviation};
use super::report::Report;

/// Intervals of the grid of timesteps.
const GRID: usize = 10;

/// Whether the output is finite on noise and on a picture of extremes, at timesteps from 0 to T - 1.
pub fn check_finite(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let last = probe.last_timestep();
    let mut times: Vec<usize> = (0..=GRID).map(|index| last * index / GRID).collect();
    times.dedup();
    let noise = probe.noise(6, 1);
    let extremes: Vec<f32> = noise.iter().map(|value| value.signum()).collect();
    let mut bad = Vec::new();
    for &t in &times {
        for (what, x) in [("noise", &noise), ("values of -1 and 1", &extremes)] {
            if !all_finite(&probe.predict(x, t as f64)?) {
                bad.push((t, what));
            }
        }
    }
    if bad.is_empty() {
        report.ok(
            "finite",
            format!("the output is finite at {} timesteps from 0 to {last}", times.len()),
        );
        return Ok(());
    }
    let mut at: Vec<String> = bad.iter().map(|(t, _)| t.to_string()).collect();
    at.dedup();
    let half = if probe.is_half() { "; float16 ends at 65504" } else { "" };
    report.fault(
        "finite",
        format!("the output is not finite at t = {} (first on {}){half}", at.join(", "), bad[0].1),
        "look for an overflow (attention and normalisation in float16, as a rule), a division by 0 or a logarithm; keep those parts in float32",
    );
    report.with(json!({ "timesteps": bad.iter().map(|(t, _)| t).collect::<Vec<_>>() }));
    Ok(())
}

/// How much the output varies on pure noise at the last timestep.
pub fn check_scale(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let x = probe.noise(7, 4);
    let t = probe.last_timestep();
    let m = probe.predict(&x, t as f64)?;
    if !all_finite(&m) {
        return Ok(());
    }
    let found = deviation(&m);
    let stated = probe.model().prediction_type;
    // The noise itself, or the picture, whose values are in [-1, 1]; the mean is the noise too.
    let (least, most, expected) = match stated {
        PredictionType::Epsilon | PredictionType::Mean => (0.5, 2.0, "about 1"),
        PredictionType::Sample | PredictionType::VPrediction => (0.01, 1.5, "0.1 to 1"),
    };
    let says = format!("on pure noise at t = {t} the output deviates by {found:.3}");
    if (least..=most).contains(&found) {
        report.ok("scale", says);
    } else {
        report.warning(
            "scale",
            format!("{says}, expected {expected} of a model that predicts {stated}"),
            "look for another prediction type, another scale of the input, or weights that were not loaded",
        );
    }
    report.with(json!({ "deviation": found }));
    Ok(())
}

/// Steps of the short run.
const STEPS: usize = 10;

/// Values this far outside the range are no rounding.
const OUTSIDE: f32 = 1.1;

/// More of them than this, in the last step, is no picture.
const TOO_MANY: f64 = 0.2;

pub fn check_run(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let model = probe.model().clone();
    let steps = STEPS.min(model.num_train_timesteps);
    let sampler = SamplerConfig {
        timesteps: None,
        strength: 1.0,
        ..model.sampler_config(Sampler::Ddim, steps)
    };
    let batch = probe.info().fixed_batch.unwrap_or(1);
    let label = model.classes.map(|_| probe.label());
    // No class is asked for by no label.
    let label =
        label.filter(|label| model.classes.and_then(|classes| classes.null) != Some(*label));
    let start = RunStart { seed: probe.seed(), label, ..RunStart::default() };
    let mut run = Run::starting(&model, &sampler, start, batch)?;
    let schedule = model.noise_schedule()?;
    let mut outside = Vec::new();
    while run.step_index() < run.steps() {
        let t = run.timestep().unwrap_or(0.0) as usize;
        let x = run.sample().to_vec();
        if let Err(error) = run.step(probe.denoiser()) {
            let says = format!(
                "{steps} DDIM steps end in step {}: {}",
                run.step_index(),
                one_line(error.message())
            );
            let advice = match error.kind() {
                ErrorKind::NonFinite => "see what is not finite, above",
                _ => "see the other faults first",
            };
            report.fault("run", says, advice);
            return Ok(());
        }
        let (p_x, p_m) = model.prediction_type.x0_coefficients(&schedule, t)?;
        let item = run.item_len();
        let output =
            run.model_output().chunks_exact(item * model.output_channels() / model.channels);
        let pairs = x.chunks_exact(item).zip(output).flat_map(|(x, m)| x.iter().zip(m));
        let x0 = pairs.map(|(x, m)| (p_x * f64::from(*x) + p_m * f64::from(*m)) as f32);
        let count = x0.filter(|value| value.abs() > OUTSIDE).count();
        outside.push(count as f64 / x.len() as f64);
    }
    let (share, varies) = (outside.last().copied().unwrap_or(0.0), deviation(run.sample()));
    let says = format!(
        "{steps} DDIM steps give a finite picture; {:.1} % of it lay outside [-1, 1] in the last",
        100.0 * share
    );
    let is_clipped = model.sampler.thresholding != Thresholding::Off;
    if share > TOO_MANY {
        let clipped = if is_clipped { " before it was clipped" } else { "" };
        report.warning(
            "run",
            format!("{says}{clipped}: the picture does not settle in the range"),
            "the prediction type, the schedule or the range of values is wrong, as a rule; see --images",
        );
    } else if varies < 0.01 {
        report.warning(
            "run",
            format!("{says}; it is of one colour"),
            "look at `ddpm run`: the model may not be trained, or is fed in another way",
        );
    } else {
        report.ok("run", says);
    }
    report.with(json!({ "steps": steps, "outside": outside, "deviation": varies }));
    Ok(())
}

/// Runs that are timed, after one that is not.
const TIMED: usize = 5;

/// The median time of a run, in milliseconds, and its batch.
pub fn speed(probe: &mut Probe) -> Result<Value> {
    let batch = probe.info().fixed_batch.unwrap_or(1);
    let (x, t, label) = (probe.noise(8, batch), vec![0.0; batch], probe.label());
    probe.call(&x, &t, label)?;
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let begun = Instant::now();
        probe.call(&x, &t, label)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(json!({ "batch": batch, "milliseconds": times[TIMED / 2] }))
}
