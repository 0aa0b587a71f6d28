//! Which input is the sample, which the timestep, which takes class labels, and which output to use:
//! by name, type and rank.
//!
//! Decided from what the graph declares, once, at load.

use crate::error::{Error, Result};

use super::Contract;
use super::ModelOverrides;
use super::ports::{Image, Label, Port, Ports, Timestep, best_named, dims_text, refuse};

/// The longest side of a picture.
pub(super) const MAX_SIDE: usize = 16384;

/// The most values in one sample; as f32 that is 1 GiB.
const MAX_VALUES: usize = 1 << 28;

/// Names that settle which of several fitting inputs or outputs is meant, in common exports.
const SAMPLE_NAMES: &[&str] = &["sample", "x", "x_t", "latent", "latents", "image"];
const TIMESTEP_NAMES: &[&str] =
    &["timestep", "timesteps", "t", "time", "time_step", "time_steps", "ts"];
const LABEL_NAMES: &[&str] =
    &["class_labels", "class_label", "labels", "label", "classes", "class_ids", "y"];
const OUTPUT_NAMES: &[&str] =
    &["out_sample", "noise_pred", "pred_noise", "model_output", "eps", "epsilon", "output", "out"];
/// Names of inputs that take how much noise there is, which is no timestep, though of its type and rank.
const NOISE_LEVEL_NAMES: &[&str] = &[
    "sigma",
    "sigmas",
    "noise_level",
    "noise_levels",
    "noise_labels",
    "c_noise",
    "log_snr",
    "logsnr",
    "gamma",
    "gammas",
];

const SAMPLE: &str = "sample (float32 or float16 of rank 4)";
const TIMESTEP: &str = "timestep (int64, int32, float32, float16 or float64 of rank 0 or 1)";
const LABEL: &str = "class labels (int64 or int32 of rank 1)";
const OUTPUT: &str = "output (float32 or float16 of rank 4)";

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) sample: Image,
    pub(super) timestep: Timestep,
    /// `None` for a model without classes.
    pub(super) label: Option<Label>,
    pub(super) output: Image,
}

/// The size of a sample, and of the output for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Whether the output has 2C channels; `None` where the graph leaves them open.
    pub(super) gives_variance: Option<bool>,
}

impl Roles {
    /// Finds the roles. `model` names the file in messages. Errors: `Model`.
    pub(super) fn find(
        inputs: &[Port],
        outputs: &[Port],
        overrides: &ModelOverrides,
        model: &str,
    ) -> Result<Self> {
        let ins = Ports { model, what: "input", ports: inputs };
        let outs = Ports { model, what: "output", ports: outputs };
        let sample =
            ins.pick(SAMPLE, overrides.sample_input.as_deref(), SAMPLE_NAMES, Image::of)?;
        // Looked at first: a name that is not there would else leave the timestep undecided.
        if let Some(name) = &overrides.label_input {
            ins.named(LABEL, name, Label::of)?;
        }
        let timestep = find_timestep(&ins, overrides)?;
        let label = find_label(&ins, &timestep, overrides)?;
        for port in inputs {
            let has_role = [&sample.name, &timestep.name].contains(&&port.name)
                || label.as_ref().is_some_and(|label| label.name == port.name);
            if !has_role {
                return Err(ins.left_over(port));
            }
        }
        // Where nothing tells an output's rank, a run has to.
        let has_images = outputs.iter().any(|port| Image::of(port).is_some());
        let fit = |port: &Port| match has_images {
            true => Image::of(port),
            false => Image::of_any_shape(port),
        };
        let output = outs.pick(OUTPUT, overrides.output.as_deref(), OUTPUT_NAMES, fit)?;
        Ok(Self { sample, timestep, label, output })
    }

    /// The roles as the graph declares what plays them.
    pub(super) fn contract(&self, inputs: &[Port], outputs: &[Port]) -> Contract {
        let declared = |ports: &[Port], name: &str| {
            ports.iter().find(|port| port.name == name).map(Port::to_string).unwrap_or_default()
        };
        Contract {
            sample: declared(inputs, &self.sample.name),
            timestep: declared(inputs, &self.timestep.name),
            labels: self.label.as_ref().map(|label| declared(inputs, &label.name)),
            output: declared(outputs, &self.output.name),
        }
    }

    /// The batch the graph is fixed to; `None` for any. Errors: `Model` where it says two, or none.
    pub(super) fn fixed_batch(&self, inputs: &[Port], model: &str) -> Result<Option<usize>> {
        // One value is for all the batch.
        let of_values = |name: &String| {
            let port = inputs.iter().find(|port| port.name == *name)?;
            port.dims.first().copied().flatten().filter(|&size| size != 1)
        };
        let label = self.label.as_ref().map(|label| &label.name);
        let said = [
            ("input", Some(&self.sample.name), self.sample.dims[0]),
            ("input", Some(&self.timestep.name), of_values(&self.timestep.name)),
            ("input", label, label.and_then(of_values)),
            ("output", Some(&self.output.name), self.output.dims[0]),
        ];
        let mut fixed = None;
        for (what, name, batch) in said {
            let (Some(name), Some(batch)) = (name, batch) else {
                continue;
            };
            let (first, expected) = *fixed.get_or_insert((name, batch));
            if batch != expected {
                return Err(refuse(format!(
                    "{model}: {what} \"{name}\" has a batch of {batch}, expected {expected} as input \"{first}\""
                )));
            }
            if batch == 0 {
                return Err(refuse(format!(
                    "{model}: {what} \"{name}\" has a batch of 0, expected at least 1, or one that is left open"
                )));
            }
        }
        Ok(fixed.map(|(_, batch)| batch))
    }

    /// C, H and W: of the caller, else the graph, else the metadata; and whether there is a variance.
    ///
    /// Errors: `Model` where one stays open, the caller contradicts the graph, or the output does
    /// not fit; `InvalidArgument` for a size that is out of range.
    pub(super) fn shape(
        &self,
        overrides: &ModelOverrides,
        metadata: &super::metadata::Metadata,
        model: &str,
    ) -> Result<Shape> {
        let color = overrides.color.or(metadata.color);
        let Some(channels) = self.sample.dims[1].or(color.map(|color| color.channels())) else {
            return Err(refuse(format!(
                "{model}: input \"{}\" leaves its channels open; fix them in the export, or add metadata ddpm.color (gray, rgb or rgba)",
                self.sample.name
            )));
        };
        if !matches!(channels, 1 | 3 | 4) {
            let hint = match self.sample.dims[3] {
                Some(1 | 3 | 4) => {
                    "; it seems to have them last, [N, H, W, C], expected [N, C, H, W]: export it so, or with a Transpose at both ends"
                }
                _ => "",
            };
            return Err(refuse(format!(
                "{model}: input \"{}\" {} has {channels} channels, expected 1 (gray), 3 (rgb) or 4 (rgba){hint}",
                self.sample.name,
                dims_text(&self.sample.dims)
            )));
        }
        let height = self.side("height", 2, overrides.height, metadata.height, model)?;
        let width = self.side("width", 3, overrides.width, metadata.width, model)?;
        if channels * height * width > MAX_VALUES {
            return Err(Error::invalid_argument(format!(
                "{model}: size: found {channels} x {height} x {width}, expected at most {MAX_VALUES} values"
            )));
        }
        let gives_variance = self.check_output([channels, height, width], model)?;
        Ok(Shape { channels, height, width, gives_variance })
    }

    fn side(
        &self,
        what: &str,
        axis: usize,
        given: Option<usize>,
        metadata: Option<usize>,
        model: &str,
    ) -> Result<usize> {
        let fixed = self.sample.dims[axis];
        if let (Some(given), Some(fixed)) = (given, fixed)
            && given != fixed
        {
            return Err(refuse(format!(
                "{model}: {what}: found {given}, expected {fixed} as input \"{}\" is fixed to it",
                self.sample.name
            )));
        }
        let Some(side) = given.or(fixed).or(metadata) else {
            return Err(refuse(format!(
                "{model}: the {what} is open; give it when loading, or add metadata ddpm.{what}"
            )));
        };
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(Error::invalid_argument(format!(
                "{model}: {what}: found {side}, expected 1 to {MAX_SIDE}"
            )));
        }
        Ok(side)
    }

    /// Whether the output has 2C channels, where the graph says how many.
    fn check_output(
        &self,
        [channels, height, width]: [usize; 3],
        model: &str,
    ) -> Result<Option<bool>> {
        let output = &self.output;
        let [_, depth, rows, columns] = output.dims;
        let fits = |dim: Option<usize>, expected| dim.is_none_or(|dim| dim == expected);
        if fits(rows, height) && fits(columns, width) {
            match depth {
                None => return Ok(None),
                Some(depth) if depth == channels => return Ok(Some(false)),
                Some(depth) if depth == 2 * channels => return Ok(Some(true)),
                Some(_) => {}
            }
        }
        Err(refuse(format!(
            "{model}: output \"{}\" is {}, expected [N, {channels}, {height}, {width}] as the sample, or {} channels with a variance",
            output.name,
            dims_text(&output.dims),
            2 * channels
        )))
    }
}

/// The timestep: the one named, else by a name that is known for it, else the only one that takes
/// fractions, else the only one that is not known as something else.
fn find_timestep(ins: &Ports<'_>, overrides: &ModelOverrides) -> Result<Timestep> {
    if let Some(name) = &overrides.timestep_input {
        return ins.named(TIMESTEP, name, Timestep::of);
    }
    let is_taken = |port: &Port| {
        overrides.label_input.as_ref() == Some(&port.name)
            || (Label::of(port).is_some() && port.is_named(LABEL_NAMES))
    };
    let fitting: Vec<&Port> =
        ins.ports.iter().filter(|port| Timestep::of(port).is_some() && !is_taken(port)).collect();
    let by_name = best_named(&fitting, TIMESTEP_NAMES);
    let fractional = |port: &&&Port| Timestep::of(port).is_some_and(|found| !found.is_whole());
    let chosen = by_name.or_else(|| match fitting[..] {
        [only] => Some(only),
        _ => {
            let mut fractional = fitting.iter().filter(fractional);
            fractional.next().copied().filter(|_| fractional.next().is_none())
        }
    });
    let chosen = chosen.ok_or_else(|| ins.undecided(TIMESTEP, fitting.len()))?;
    if chosen.is_named(NOISE_LEVEL_NAMES) {
        return Err(refuse(format!(
            "{}: input {chosen} takes a level of noise by its name, expected a timestep; if it takes timesteps, name it as the timestep input when loading",
            ins.model
        )));
    }
    Timestep::of(chosen).ok_or_else(|| ins.undecided(TIMESTEP, fitting.len()))
}

/// The class labels, where an input is left that takes them.
fn find_label(
    ins: &Ports<'_>,
    timestep: &Timestep,
    overrides: &ModelOverrides,
) -> Result<Option<Label>> {
    let fit = |port: &Port| Label::of(port).filter(|label| label.name != timestep.name);
    let named = overrides.label_input.as_deref();
    if named.is_none() && !ins.ports.iter().any(|port| fit(port).is_some()) {
        return Ok(None);
    }
    ins.pick(LABEL, named, LABEL_NAMES, fit).map(Some)
}
