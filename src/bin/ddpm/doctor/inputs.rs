//! What the model makes of its inputs: the timestep, the items of a batch, the class labels.

use ddpm::error::Result;
use ddpm::onnx::Provider;
use ddpm::sampler::SigmaSpacing;
use ddpm::timesteps::TimestepSpacing;
use serde_json::json;

use super::probe::{Probe, difference, mean_square};
use super::report::Report;

/// Two outputs closer than this, over their size, are the same but for the order of sums.
const SAME: f64 = 1e-4;

/// And where they pass through float16, which has 11 bits.
const SAME_IN_HALF: f64 = 5e-3;

/// Outputs of unlike inputs that differ by less than this, over their size, do not depend on them.
const INDEPENDENT: f64 = 1e-6;

const BAKED: &str = "a batch size is baked into the graph (a Reshape or Expand with a constant, as a rule); export with a dynamic batch and without reading shapes as numbers";

/// And where a device takes another algorithm for another batch.
const SAME_ELSEWHERE: f64 = 1e-3;

fn tolerance(probe: &Probe) -> f64 {
    match probe.info().provider {
        _ if probe.is_half() => SAME_IN_HALF,
        Provider::Cpu => SAME,
        _ => SAME_ELSEWHERE,
    }
}

fn relative(a: &[f32], b: &[f32]) -> f64 {
    let size = mean_square(a).max(mean_square(b)).sqrt();
    if size > 0.0 { difference(a, b) * mean_square(a).sqrt().max(1.0) / size } else { 0.0 }
}

pub fn check_timestep(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let declared = probe.info().contract.timestep.clone();
    let last = probe.last_timestep();
    if last == 0 {
        report.note("timestep", format!("input {declared}; there is but one timestep"), "");
        return Ok(());
    }
    let x = probe.noise(1, 1);
    let times = [0, last / 2, last];
    let mut outputs = Vec::new();
    for t in times {
        outputs.push(probe.predict(&x, t as f64)?);
    }
    let change = relative(&outputs[0], &outputs[1]).max(relative(&outputs[1], &outputs[2]));
    let figures = json!({ "declared": declared, "change_over_time": change });
    if change < INDEPENDENT {
        report.fault(
            "timestep",
            format!("the output does not depend on input {declared}: it is the same at t = 0, {} and {last}", last / 2),
            "export with the timestep as an input of the traced function; a number that is traced becomes a constant",
        );
    } else {
        report.ok("timestep", format!("input {declared}, and the output depends on it"));
    }
    report.with(figures);
    if probe.batching().shared_timestep && probe.info().fixed_batch != Some(1) {
        report.note(
            "timestep",
            "one timestep is taken for the whole batch, so streams at different steps run one after the other",
            "export the timestep as [N] to have them share a call",
        );
    }
    let sampler = &probe.model().sampler;
    if !sampler.fractional_timesteps
        && (sampler.sigmas != SigmaSpacing::Timesteps
            || sampler.spacing == TimestepSpacing::Linspace)
    {
        report.note(
            "timestep",
            format!("the timestep is an integer, and the model's own {} visits fractions with {} spacing and {} sigmas: they are rounded", sampler.kind.name(), sampler.spacing.name(), sampler.sigmas.name()),
            "export the timestep as float32, or take leading or trailing spacing with the sigmas of the timesteps",
        );
    }
    Ok(())
}

/// Also finds what batch the later checks may run.
pub fn check_batch(probe: &mut Probe, report: &mut Report) -> Result<()> {
    if let Some(fixed) = probe.info().fixed_batch
        && probe.info().contract.sample.contains(" [?, ")
    {
        report.fault(
            "batch",
            format!("the batch is declared open, but the output is of {fixed} whatever comes in"),
            BAKED,
        );
        return Ok(());
    }
    let largest = match probe.info().fixed_batch {
        Some(1) => {
            report.note(
                "batch",
                "the graph is fixed to a batch of 1",
                "export it with an open batch to have streams share a call",
            );
            return Ok(());
        }
        Some(fixed) => {
            report.note(
                "batch",
                format!("the graph is fixed to a batch of {fixed}: a single picture costs as much"),
                "export it with an open batch",
            );
            fixed
        }
        None => match runs_open(probe, report) {
            Some(batch) => batch,
            None => return Ok(()),
        },
    };
    check_items(probe, largest, report)
}

/// Runs the batches 1 to 4; the largest that works, where all do, and 3 or more items to compare.
fn runs_open(probe: &mut Probe, report: &mut Report) -> Option<usize> {
    let (label, t) = (probe.label(), probe.last_timestep() as f64 / 2.0);
    let mut failed = Vec::new();
    let mut reason = String::new();
    for batch in 1..=4 {
        let x = probe.noise(2, batch);
        if let Err(error) = probe.call(&x, &vec![t.floor(); batch], label) {
            failed.push(batch.to_string());
            reason = one_line(error.message());
        } else {
            probe.takes(batch);
        }
    }
    if failed.is_empty() {
        return Some(4);
    }
    // The later checks run what works; where 1 does, it is the safe one.
    if failed.first().is_some_and(|first| first != "1") {
        probe.takes(1);
    }
    report.fault(
        "batch",
        format!(
            "the batch is declared open, but of {} the model does not run: {reason}",
            failed.join(", ")
        ),
        BAKED,
    );
    None
}

/// What each item gives in company and alone.
fn check_items(probe: &mut Probe, batch: usize, report: &mut Report) -> Result<()> {
    let (label, item) = (probe.label(), probe.item_len());
    let middle = (probe.last_timestep() / 2) as f64;
    let limit = tolerance(probe);
    let x = probe.noise(3, batch);
    let together = probe.call(&x, &vec![middle; batch], label)?;
    // Other company for the first item.
    let mut other = probe.noise(4, batch);
    other[..item].copy_from_slice(&x[..item]);
    other[item..].iter_mut().for_each(|value| *value = 3.0 * *value + 1.0);
    let mixed = probe.call(&other, &vec![middle; batch], label)?;
    let leak = difference(&together[..item], &mixed[..item]);
    if leak > limit {
        report.fault(
            "batch",
            format!("items of a batch leak into each other: the first changes by {leak:.1e} of its size with its mates"),
            "a layer works over the batch (batch normalisation in training mode, or a reshape that moves N); export in evaluation mode",
        );
        report.with(json!({ "leak": leak }));
        return Ok(());
    }
    if probe.info().fixed_batch.is_some() {
        report.ok("batch", format!("the {batch} items do not influence each other"));
        return Ok(());
    }
    let mut worst: f64 = 0.0;
    for index in 0..batch {
        let range = index * item..(index + 1) * item;
        let alone = probe.call(&x[range.clone()], &[middle], label)?;
        worst = worst.max(difference(&alone, &together[range]));
    }
    let figures = json!({ "leak": leak, "off_alone": worst });
    if worst > limit {
        report.fault(
            "batch",
            format!("an item gives something else in a batch of {batch} than alone: off by {worst:.1e} of its size"),
            "look for a Reshape, Expand or Slice that takes all items for the first",
        );
        report.with(figures);
        return Ok(());
    }
    if !probe.batching().shared_timestep && !takes_own_timesteps(probe, &x, batch)? {
        report.fault(
            "batch",
            "items of a batch do not take their own timestep, though the input has one for each",
            "look for a Slice, Gather or Reshape behind the timestep that keeps the first only",
        );
        report.with(figures);
        return Ok(());
    }
    report.ok("batch", "1, 2, 3 and 4 run, and an item gives the same alone and in any company");
    report.with(figures);
    Ok(())
}

fn takes_own_timesteps(probe: &mut Probe, x: &[f32], batch: usize) -> Result<bool> {
    let (label, item, last) = (probe.label(), probe.item_len(), probe.last_timestep());
    let times: Vec<f64> =
        (0..batch).map(|index| (last * index / (batch - 1).max(1)) as f64).collect();
    let together = probe.call(x, &times, label)?;
    for (index, &t) in times.iter().enumerate() {
        let range = index * item..(index + 1) * item;
        let alone = probe.call(&x[range.clone()], &[t], label)?;
        if difference(&alone, &together[range]) > tolerance(probe) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub fn check_classes(probe: &mut Probe, report: &mut Report) -> Result<()> {
    let Some(classes) = probe.model().classes else {
        return Ok(());
    };
    let named = probe.info().classes.len();
    if classes.count.is_none() {
        report.note(
            "classes",
            "the model takes class labels, but does not say how many there are",
            "add ddpm.classes, a JSON list of names, or load with --class-count",
        );
    }
    if let Some(count) = classes.count
        && named > 0
        && named != count
    {
        report.warning(
            "classes",
            format!("found {named} names for {count} classes"),
            "make ddpm.classes name every label",
        );
    }
    let null = classes
        .null
        .map_or("no label stands for no class, so there is no guidance".to_owned(), |null| {
            format!("{null} stands for no class")
        });
    let count = classes.count.map_or("any number of".to_owned(), |count| count.to_string());
    let batch = probe.info().fixed_batch.unwrap_or(1);
    let (x, t) = (probe.noise(5, batch), vec![(probe.last_timestep() / 2) as f64; batch]);
    if let Some(last) = classes.count.and_then(|count| i64::try_from(count).ok()).map(|n| n - 1)
        && let Err(error) = probe.call(&x, &t, last)
    {
        report.fault(
            "classes",
            format!(
                "{count} classes, but the model does not run with label {last}: {}",
                one_line(error.message())
            ),
            "have ddpm.classes, or --class-count, name as many as the embedding of the model has",
        );
        return Ok(());
    }
    // With one class, that and none.
    let second = if classes.count == Some(1) { classes.null } else { Some(1) };
    let Some(second) = second else {
        report.ok("classes", format!("{count} class; {null}"));
        return Ok(());
    };
    let first = probe.call(&x, &t, 0)?;
    let second = probe.call(&x, &t, second)?;
    if relative(&first, &second) < INDEPENDENT {
        report.fault(
            "classes",
            "the output does not depend on the class label",
            "export with the label as an input of the traced function, and with the class embedding used",
        );
    } else {
        report.ok("classes", format!("{count} classes; {null}; the output depends on the label"));
    }
    report.with(json!({ "count": classes.count, "null": classes.null }));
    Ok(())
}

/// A message of the runtime: of many lines, and with what matters at its end.
pub fn one_line(text: &str) -> String {
    const HEAD: usize = 120;
    const TAIL: usize = 240;
    let characters: Vec<char> =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    if characters.len() <= HEAD + TAIL {
        return characters.into_iter().collect();
    }
    let part = |part: &[char]| part.iter().collect::<String>();
    format!("{} ... {}", part(&characters[..HEAD]), part(&characters[characters.len() - TAIL..]))
}
