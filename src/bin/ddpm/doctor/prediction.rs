//! What the model predicts and how it wants its pictures: by how well it explains noised ones.

use ddpm::error::Result;
use ddpm::model::Color;
use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::prediction::PredictionType;
use serde_json::json;

use super::pictures::Pictures;
use super::probe::{Probe, all_finite, correlation};
use super::report::{Report, Severity};
use super::residual::{Explained, Feeding, TYPES, Trial};
use crate::describe;
use crate::progress::Progress;

/// Another assumption is better where it leaves less than this share of the noise that ours leaves. The
/// right one of a trained model leaves a quarter to two thirds; what is unlike by chance, nine tenths.
const BETTER: f64 = 0.8;
/// Of a schedule, which the shipped model tells from its nearest rival by 0.63: between these it is
/// likely and no more.
const SURELY_BETTER: f64 = 0.67;

/// The most steps of progress that [`on_pictures`] makes.
pub const STEPS: u64 = 7 + 10;

/// A type explains the output where its mean share is at least this; chance gives 0 or less.
const EXPLAINS: f64 = 0.3;

/// And is clearly another's where it has so much more.
const MARGIN: f64 = 0.1;

/// Without pictures: on pure noise at the last timestep.
pub fn on_noise(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let stated = probe.model().prediction_type;
    let x = probe.noise(0, 4);
    let t = probe.last_timestep();
    let m = probe.predict(&x, t as f64)?;
    if !all_finite(&m) {
        report.note("prediction", "not checked: the output is not finite", "");
        return Ok(());
    }
    let found = correlation(&x, &m);
    let is_noise = found > 0.9;
    let alpha_bar = probe.model().noise_schedule()?.alphas_cumprod()[t];
    let figures = json!({ "stated": stated.name(), "correlation_with_noise": found });
    let says = format!("on pure noise at t = {t} the output correlates {found:.2} with its input");
    let advice =
        "give pictures of the kind it was trained on (--images FOLDER or SHEET) to be sure";
    let fits = match stated {
        PredictionType::Epsilon | PredictionType::Mean => found > 0.5,
        PredictionType::Sample | PredictionType::VPrediction => !is_noise,
    };
    if alpha_bar > 0.1 {
        let says = format!(
            "{says}, which says little as the schedule ends with {:.0} % signal",
            100.0 * alpha_bar.sqrt()
        );
        report.note("prediction", says, advice);
    } else if fits {
        let says = format!("{says}: fits {stated} (weak evidence)");
        report.note("prediction", says, advice);
    } else {
        let like = if is_noise { "epsilon or mean" } else { "sample or v_prediction" };
        let says = format!("{says}: that is how {like} looks, not {stated} (weak evidence)");
        report.warning("prediction", says, advice);
    }
    report.with(figures);
    Ok(())
}

/// With pictures: the prediction type, the range and order of the values, the unit of the timestep and
/// the schedule.
pub fn on_pictures(
    probe: &mut Probe,
    pictures: Pictures,
    schedule_is_stated: bool,
    (progress, report): (&mut Progress, &mut Report),
) -> Result<()> {
    for remark in &pictures.remarks {
        report.note("images", remark.clone(), "");
    }
    let trial = Trial::new(probe, pictures.samples);
    let schedule = probe.model().noise_schedule()?;
    let Some(ours) = trial.explained(probe, &schedule, Feeding::OURS)? else {
        report.note("prediction", "not checked: the output on the pictures is not finite", "");
        return Ok(());
    };
    let takes_fractions = probe.model().sampler.fractional_timesteps;
    let mut others = vec![];
    for from_zero in [false, true] {
        for swapped in [false, true] {
            for unit_time in [false, true] {
                let feeding = Feeding { from_zero, swapped, unit_time };
                let is_possible = (!swapped || probe.model().color != Color::Gray)
                    && (!unit_time || takes_fractions);
                if feeding != Feeding::OURS && is_possible {
                    others.push(feeding);
                }
            }
        }
    }
    let (mut best, mut fed) = (ours, Feeding::OURS);
    let left_of_ours = best.left[best.best()];
    for feeding in others {
        progress.step();
        let Some(other) = trial.explained(probe, &schedule, feeding)? else {
            continue;
        };
        let left = other.left[other.best()];
        // The simplest comes first, and a later one must be better than it by more than chance.
        if left < BETTER * best.left[best.best()] {
            (best, fed) = (other, feeding);
        }
    }
    say_type(probe, &best, pictures.count, report);
    let kind = best.best();
    if best.share(kind) < EXPLAINS {
        report.note("feeding", "not checked: no prediction type explains the output", "");
        return Ok(());
    }
    say_feeding(probe, fed, left_of_ours, best.left[kind], report);
    // The mean's own coefficients hang on the schedule, so that it is no measure of others.
    if TYPES[kind] == PredictionType::Mean {
        report.note(
            "schedule",
            "not checked: cannot be told from a model that predicts the mean",
            "",
        );
        return Ok(());
    }
    check_schedule(
        probe,
        &trial,
        fed,
        (kind, best.left[kind]),
        schedule_is_stated,
        (progress, report),
    )
}

fn say_type(probe: &Probe, explained: &Explained, count: usize, report: &mut Report) {
    let stated = probe.model().prediction_type;
    let best = explained.best();
    let index = TYPES.iter().position(|kind| *kind == stated).unwrap_or(0);
    let means: Vec<String> = (0..TYPES.len())
        .map(|kind| format!("{} {:.0} %", TYPES[kind], 100.0 * explained.share(kind).max(0.0)))
        .collect();
    let means = means.join(", ");
    let pictures = if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") };
    let share = explained.share(best);
    if share < EXPLAINS {
        report.warning(
            "prediction",
            format!("no prediction type explains the output; what each does on {pictures}: {means}"),
            "give pictures of the kind it was trained on; if they are, the model is not trained, or its input is scaled in another way",
        );
    } else if best != index && share > explained.share(index) + MARGIN {
        report.fault(
            "prediction",
            format!("the output is {}, but the model is said to predict {stated}; what each type explains of it on {pictures}: {means}", TYPES[best]),
            format!("set ddpm.prediction_type to {0} in the export, or load with --prediction-type {0}", TYPES[best]),
        );
    } else {
        report.ok(
            "prediction",
            format!("the output is {stated}; what each type explains of it on {pictures}: {means}"),
        );
    }
    let shares = |kind: usize| (TYPES[kind].name().to_owned(), json!(explained.shares[kind]));
    report.with(json!({
        "stated": stated.name(),
        "best": TYPES[best].name(),
        "timesteps": explained.timesteps,
        "explained": (0..TYPES.len()).map(shares).collect::<serde_json::Map<_, _>>(),
    }));
}

fn say_feeding(probe: &Probe, fed: Feeding, ours: f64, left: f64, report: &mut Report) {
    let less = format!("that leaves {:.2} times as much noise", left / ours);
    if probe.model().sampler.fractional_timesteps {
        if fed.unit_time {
            report.fault(
                "time-unit",
                format!("the model wants its timestep from 0 to 1, not 0 to T: {less}"),
                "multiply the timestep by 1/T inside the exported graph",
            );
        } else {
            report.ok("time-unit", "the timestep counts from 0 to T");
        }
    }
    if fed.from_zero {
        report.fault(
            "range",
            format!("the model wants values from 0 to 1, not -1 to 1: {less}"),
            "map the sample inside the exported graph, or train on values from -1 to 1",
        );
    } else {
        report.ok("range", "values from -1 to 1 explain more than 0 to 1");
    }
    if probe.model().color == Color::Gray {
        return;
    }
    if fed.swapped {
        report.fault(
            "order",
            format!("the model wants blue, green, red, not red, green, blue: {less}"),
            "swap the channels of the sample and of the output inside the exported graph",
        );
    } else {
        report.ok("order", "red, green, blue explains as much as blue, green, red or more");
    }
}

/// The schedules that are common, with their common ends: for the T that is said, and for those that are
/// common too.
fn candidates(timesteps: usize) -> Vec<(BetaSchedule, usize)> {
    let mut all: Vec<(BetaSchedule, usize)> = [
        BetaSchedule::DDPM,
        BetaSchedule::Linear { beta_start: 0.00085, beta_end: 0.012 },
        BetaSchedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 },
        BetaSchedule::SquaredcosCapV2,
        BetaSchedule::Sigmoid { beta_start: 1e-4, beta_end: 0.02 },
        BetaSchedule::Laplace,
    ]
    .map(|schedule| (schedule, timesteps))
    .into();
    if timesteps != 1000 {
        all.push((BetaSchedule::DDPM, 1000));
        all.push((BetaSchedule::SquaredcosCapV2, 1000));
    }
    if timesteps != 4000 {
        // Nichol and Dhariwal 2021, whose linear betas are those of T = 1000 times 1000 / T.
        all.push((BetaSchedule::Linear { beta_start: 2.5e-5, beta_end: 0.005 }, 4000));
        all.push((BetaSchedule::SquaredcosCapV2, 4000));
    }
    all
}

fn check_schedule(
    probe: &mut Probe,
    trial: &Trial,
    feeding: Feeding,
    (kind, ours): (usize, f64),
    is_stated: bool,
    (progress, report): (&mut Progress, &mut Report),
) -> Result<()> {
    let stated = probe.model().beta_schedule.clone();
    let timesteps = probe.model().num_train_timesteps;
    let mut best: Option<(String, String, f64)> = None;
    let mut figures = serde_json::Map::new();
    for (candidate, length) in candidates(timesteps) {
        progress.step();
        if (&candidate, length) == (&stated, timesteps) && !probe.model().rescale_betas_zero_snr {
            continue;
        }
        let schedule = NoiseSchedule::new(&candidate, length)?;
        let explained = match trial.explained(probe, &schedule, feeding) {
            Ok(Some(explained)) => explained,
            // A timestep beyond its own T may be more than a model takes.
            Err(_) if length > timesteps => continue,
            Ok(None) => continue,
            Err(error) => return Err(error),
        };
        let left = explained.left[kind];
        let mut name = words(&candidate);
        let mut flags = flags(&candidate);
        if length != timesteps {
            name += &format!(" over {length} timesteps");
            flags += &format!(" --num-train-timesteps {length}");
        }
        figures.insert(name.clone(), json!(left / ours));
        if best.as_ref().is_none_or(|(_, _, least)| left < *least) {
            best = Some((name, flags, left));
        }
    }
    let source = if is_stated { "stated" } else { "taken by default" };
    let name = describe::schedule_text(probe.model());
    match best {
        Some((other, flags, left)) if left < BETTER * ours => {
            let severity =
                if left < SURELY_BETTER * ours { Severity::Fault } else { Severity::Warning };
            report.push(
                "schedule",
                severity,
                format!("betas {other} fit better than {name} ({source}): they leave {:.2} times as much noise", left / ours),
                format!("set ddpm.beta_schedule, its ends and ddpm.num_train_timesteps in the export, or load with --beta-schedule {flags}"),
            );
        }
        _ => {
            report.ok(
                "schedule",
                format!("{name} ({source}): none of the common schedules fits better"),
            );
        }
    }
    report.with(json!({ "noise_left_over_that_of_ours": figures }));
    Ok(())
}

fn words(schedule: &BetaSchedule) -> String {
    let ends = schedule.ends().map_or(String::new(), |(start, end)| format!(" {start} to {end}"));
    format!("{}{ends}", schedule.name())
}

fn flags(schedule: &BetaSchedule) -> String {
    let ends = schedule
        .ends()
        .map_or(String::new(), |(start, end)| format!(" --beta-start {start} --beta-end {end}"));
    format!("{}{ends}", schedule.name())
}
