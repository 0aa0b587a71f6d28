//! Which sizes a model of open size runs at.

use ddpm::error::{ErrorKind, Result};
use ddpm::log::Logger;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use serde_json::json;

use super::probe::Probe;
use super::report::Report;

/// Multiples that U-Nets want: powers of two, one for each halving.
const MULTIPLES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Which of the sides the graph leaves open: (height, width).
fn open_sides(sample: &str) -> (bool, bool) {
    let dims = sample.rsplit_once('[').map_or("", |(_, dims)| dims.trim_end_matches(']'));
    let mut open = dims.split(", ").map(|dim| dim == "?").skip(2);
    (open.next().unwrap_or(false), open.next().unwrap_or(false))
}

/// Loads the model at a size; a side that is not given stays what the options say.
fn load_at(
    source: &ModelSource,
    options: &OnnxOptions,
    (height, width): (Option<usize>, Option<usize>),
) -> Result<OnnxDenoiser> {
    let mut options = OnnxOptions { log: Logger::default(), ..options.clone() };
    options.overrides.height = height.or(options.overrides.height);
    options.overrides.width = width.or(options.overrides.width);
    OnnxDenoiser::load(source, &options)
}

/// Whether the model runs at a size. Errors: what is not about the size.
fn runs_at(
    source: &ModelSource,
    options: &OnnxOptions,
    size: (Option<usize>, Option<usize>),
) -> Result<bool> {
    match load_at(source, options, size) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Inference => Ok(false),
        // Such as a golden output, which is that of another size: it ran.
        Err(error) if error.kind() == ErrorKind::Model => Ok(true),
        Err(error) => Err(error),
    }
}

/// By trying larger sizes next to the one that runs.
pub fn check(
    probe: &Probe,
    source: &ModelSource,
    options: &OnnxOptions,
    report: &mut Report,
) -> Result<()> {
    let model = probe.model();
    let (height, width) = (model.height, model.width);
    let open = open_sides(&probe.info().contract.sample);
    if open == (false, false) {
        report.ok("size", format!("{width}x{height}, fixed in the graph"));
        return Ok(());
    }
    for multiple in MULTIPLES {
        // The next multiple above the size, which is none of twice that unless it must be.
        let above = |side: usize| (side / multiple + 1) * multiple;
        let side = |is_open: bool, side: usize| is_open.then(|| above(side));
        let sizes = (side(open.0, height), side(open.1, width));
        if runs_at(source, options, sizes)? {
            let fits = |side: usize| side.is_multiple_of(multiple);
            let tried = (sizes.0.unwrap_or(height), sizes.1.unwrap_or(width));
            let says = match multiple {
                1 => format!(
                    "{width}x{height} and {}x{} run: any size, as it seems",
                    tried.1, tried.0
                ),
                _ => format!("of the sizes next to {width}x{height} multiples of {multiple} run"),
            };
            if fits(height) || !open.0 {
                report.ok("size", says);
            } else {
                report.note("size", says, "");
            }
            report.with(json!({ "multiple": multiple }));
            return Ok(());
        }
    }
    report.warning(
        "size",
        format!("the graph leaves the size open, but only {width}x{height} runs of those tried"),
        "a size is baked into the graph; declare it fixed, or export without reading shapes as numbers",
    );
    report.with(json!({ "multiple": null }));
    Ok(())
}

/// For a model whose first run failed: the height and width of another size that runs, if the graph
/// leaves it open, and the multiple that its sides must be of, if others run too.
pub fn other_size(
    source: &ModelSource,
    options: &OnnxOptions,
    (height, width): (usize, usize),
) -> Option<(usize, usize, Option<usize>)> {
    // A fixed side is refused by name, which is no size that runs.
    let runs = |(height, width): (usize, usize)| {
        load_at(source, options, (Some(height), Some(width))).is_ok()
    };
    let mut only = None;
    for multiple in MULTIPLES.into_iter().skip(1) {
        let size = (height.next_multiple_of(multiple), width.next_multiple_of(multiple));
        if size == (height, width) || !runs(size) {
            continue;
        }
        // It may be a multiple of more than it must be.
        if runs((size.0 + multiple, size.1 + multiple)) {
            return Some((size.0, size.1, Some(multiple)));
        }
        only = only.or(Some((size.0, size.1, None)));
    }
    only
}
