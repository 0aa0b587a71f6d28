//! Which input is the sample, which the timestep, and which output to use: by name, type and rank.
//!
//! Decided from what the graph declares, once, at load. What is unknown or ambiguous is refused
//! with every input or output listed, never guessed at and never left to the first step.

use std::fmt;

use ort::value::{Outlet, TensorElementType, ValueType};

use crate::error::{Error, ErrorKind, Result};

use super::ModelOverrides;

/// The longest side of a picture.
pub(super) const MAX_SIDE: usize = 16384;

/// The most values in one sample; as f32 that is 1 GiB.
const MAX_VALUES: usize = 1 << 28;

/// Names that settle which of several fitting inputs or outputs is meant, in common exports.
const SAMPLE_NAMES: &[&str] = &["sample", "x", "x_t", "latent", "latents", "image"];
const TIMESTEP_NAMES: &[&str] = &["timestep", "timesteps", "t", "time", "time_step"];
const LABEL_NAMES: &[&str] = &["class_labels", "class_label", "labels", "label", "y"];
const OUTPUT_NAMES: &[&str] =
    &["out_sample", "noise_pred", "model_output", "eps", "epsilon", "output"];

/// One input or output as the graph declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    name: String,
    /// `None` for what is no tensor.
    number: Option<TensorElementType>,
    /// `None` for the dimensions that the graph leaves open.
    dims: Vec<Option<usize>>,
}

impl From<&Outlet> for Port {
    fn from(outlet: &Outlet) -> Self {
        let (number, dims) = match outlet.dtype() {
            // Open dimensions are -1.
            ValueType::Tensor { ty, shape, .. } => {
                (Some(*ty), shape.iter().map(|&dim| usize::try_from(dim).ok()).collect())
            }
            _ => (None, Vec::new()),
        };
        Self { name: outlet.name().to_owned(), number, dims }
    }
}

impl fmt::Display for Port {
    /// Such as `"sample" float32 [?, 3, 16, 16]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, number, dims } = self;
        match number {
            Some(number) => write!(f, "\"{name}\" {} {}", type_name(*number), dims_text(dims)),
            None => write!(f, "\"{name}\" (not a tensor)"),
        }
    }
}

/// An input or output of four dimensions, [N, C, H, W].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) name: String,
    /// float16 where true, else float32.
    pub(super) half: bool,
    /// `None` where the graph leaves the dimension open.
    pub(super) dims: [Option<usize>; 4],
}

/// The number type of the timestep input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestepType {
    I64,
    I32,
    F32,
    F16,
    F64,
}

/// The shape of the timestep input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestepShape {
    /// Rank 0: one for the batch.
    Scalar,
    /// [1]: one for the batch.
    One,
    /// [N]: one for each sample.
    PerSample,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timestep {
    pub(super) name: String,
    pub(super) number: TimestepType,
    pub(super) shape: TimestepShape,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) sample: Image,
    pub(super) timestep: Timestep,
    pub(super) output: Image,
}

impl Roles {
    /// Finds the roles. `model` names the file in messages.
    ///
    /// Errors: `Model`; `Unsupported` for a class label input.
    pub(super) fn find(
        inputs: &[Port],
        outputs: &[Port],
        overrides: &ModelOverrides,
        model: &str,
    ) -> Result<Self> {
        let ins = Ports { model, what: "input", ports: inputs };
        let outs = Ports { model, what: "output", ports: outputs };
        let sample = ins.pick(
            "sample (float32 or float16 of rank 4)",
            overrides.sample_input.as_deref(),
            SAMPLE_NAMES,
            image,
        )?;
        let timestep = ins.pick(
            "timestep (int64, int32, float32, float16 or float64 of rank 0 or 1)",
            overrides.timestep_input.as_deref(),
            TIMESTEP_NAMES,
            timestep,
        )?;
        for port in inputs {
            if port.name != sample.name && port.name != timestep.name {
                return Err(ins.left_over(port));
            }
        }
        let output = outs.pick(
            "output (float32 or float16 of rank 4)",
            overrides.output.as_deref(),
            OUTPUT_NAMES,
            image,
        )?;
        Ok(Self { sample, timestep, output })
    }

    /// The batch the graph is fixed to; `None` for any. Errors: `Model` where it says two.
    pub(super) fn fixed_batch(&self, model: &str) -> Result<Option<usize>> {
        let (input, output) = (self.sample.dims[0], self.output.dims[0]);
        if let (Some(input), Some(output)) = (input, output)
            && input != output
        {
            return Err(refuse(format!(
                "{model}: output \"{}\" has a batch of {output}, expected {input} as input \"{}\"",
                self.output.name, self.sample.name
            )));
        }
        Ok(input.or(output))
    }

    /// C, H and W: of the caller, else the graph, else the metadata.
    ///
    /// Errors: `Model` where one stays open, the caller contradicts the graph, or the output does
    /// not fit; `Unsupported` for an output of 2C channels; `InvalidArgument` for a size that is
    /// out of range.
    pub(super) fn shape(
        &self,
        overrides: &ModelOverrides,
        metadata: &super::metadata::Metadata,
        model: &str,
    ) -> Result<[usize; 3]> {
        let color = overrides.color.or(metadata.color);
        let Some(channels) = self.sample.dims[1].or(color.map(|color| color.channels())) else {
            return Err(refuse(format!(
                "{model}: input \"{}\" leaves its channels open; fix them in the export, or add metadata ddpm.color (gray, rgb or rgba)",
                self.sample.name
            )));
        };
        if !matches!(channels, 1 | 3 | 4) {
            return Err(refuse(format!(
                "{model}: input \"{}\" has {channels} channels, expected 1 (gray), 3 (rgb) or 4 (rgba)",
                self.sample.name
            )));
        }
        let height = self.side("height", 2, overrides.height, metadata.height, model)?;
        let width = self.side("width", 3, overrides.width, metadata.width, model)?;
        if channels * height * width > MAX_VALUES {
            return Err(Error::invalid_argument(format!(
                "{model}: size: found {channels} x {height} x {width}, expected at most {MAX_VALUES} values"
            )));
        }
        self.check_output([channels, height, width], model)?;
        Ok([channels, height, width])
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

    fn check_output(&self, [channels, height, width]: [usize; 3], model: &str) -> Result<()> {
        let output = &self.output;
        if output.dims[1] == Some(2 * channels) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{model}: output \"{}\" has {} channels for {channels} of the sample: a learned variance, which this version does not have",
                    output.name,
                    2 * channels
                ),
            ));
        }
        let expected = [channels, height, width];
        let fits = output.dims[1..]
            .iter()
            .zip(expected)
            .all(|(dim, expected)| dim.is_none_or(|dim| dim == expected));
        if fits {
            return Ok(());
        }
        Err(refuse(format!(
            "{model}: output \"{}\" is {}, expected [N, {channels}, {height}, {width}] as the sample",
            output.name,
            dims_text(&output.dims)
        )))
    }
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::Model, message)
}

/// The inputs, or the outputs, of one model.
struct Ports<'a> {
    model: &'a str,
    what: &'static str,
    ports: &'a [Port],
}

impl Ports<'_> {
    /// The port that `fit` accepts: the one named, else the only one, else the one with a name
    /// that is known for the role.
    fn pick<T>(
        &self,
        role: &str,
        named: Option<&str>,
        known: &[&str],
        fit: impl Fn(&Port) -> Option<T>,
    ) -> Result<T> {
        let Self { model, what, ports } = self;
        if let Some(name) = named {
            let port = ports.iter().find(|port| port.name == name).ok_or_else(|| {
                refuse(format!("{model}: no {what} is named \"{name}\"; {}", self.list()))
            })?;
            return fit(port).ok_or_else(|| {
                refuse(format!("{model}: {what} {port} does not fit the role: {role}"))
            });
        }
        let mut fitting: Vec<(&str, T)> =
            ports.iter().filter_map(|port| Some((port.name.as_str(), fit(port)?))).collect();
        if fitting.len() > 1 {
            let best = known.iter().find_map(|known| {
                fitting.iter().position(|(name, _)| name.eq_ignore_ascii_case(known))
            });
            let Some(best) = best else {
                let role = role.split(' ').next().unwrap_or(role);
                return Err(refuse(format!(
                    "{model}: more than one {what} may be the {role}; name it when loading; {}",
                    self.list()
                )));
            };
            fitting.swap(0, best);
        }
        match fitting.into_iter().next() {
            Some((_, port)) => Ok(port),
            None => Err(refuse(format!("{model}: no {what} can be the {role}; {}", self.list()))),
        }
    }

    fn left_over(&self, port: &Port) -> Error {
        let Self { model, what, .. } = self;
        if LABEL_NAMES.iter().any(|known| port.name.eq_ignore_ascii_case(known)) {
            return Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{model}: {what} {port} takes class labels, which this version does not have"
                ),
            );
        }
        refuse(format!(
            "{model}: {what} {port} is required, expected a sample and a timestep and no other; {}",
            self.list()
        ))
    }

    fn list(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(Port::to_string).collect();
        format!("{}s: {}", self.what, ports.join(", "))
    }
}

fn image(port: &Port) -> Option<Image> {
    let half = match port.number? {
        TensorElementType::Float32 => false,
        TensorElementType::Float16 => true,
        _ => return None,
    };
    let dims = port.dims.as_slice().try_into().ok()?;
    Some(Image { name: port.name.clone(), half, dims })
}

fn timestep(port: &Port) -> Option<Timestep> {
    let number = match port.number? {
        TensorElementType::Int64 => TimestepType::I64,
        TensorElementType::Int32 => TimestepType::I32,
        TensorElementType::Float32 => TimestepType::F32,
        TensorElementType::Float16 => TimestepType::F16,
        TensorElementType::Float64 => TimestepType::F64,
        _ => return None,
    };
    let shape = match port.dims[..] {
        [] => TimestepShape::Scalar,
        [Some(1)] => TimestepShape::One,
        [_] => TimestepShape::PerSample,
        _ => return None,
    };
    Some(Timestep { name: port.name.clone(), number, shape })
}

fn dims_text(dims: &[Option<usize>]) -> String {
    let dims: Vec<String> =
        dims.iter().map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

fn type_name(ty: TensorElementType) -> String {
    match ty {
        TensorElementType::Float16 => "float16".to_owned(),
        TensorElementType::Float32 => "float32".to_owned(),
        TensorElementType::Float64 => "float64".to_owned(),
        TensorElementType::Int32 => "int32".to_owned(),
        TensorElementType::Int64 => "int64".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Color;
    use crate::onnx::metadata::Metadata;

    const MODEL: &str = "m.onnx";

    fn port(name: &str, number: TensorElementType, dims: &[i64]) -> Port {
        let dims = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        Port { name: name.to_owned(), number: Some(number), dims }
    }

    fn f32(name: &str, dims: &[i64]) -> Port {
        port(name, TensorElementType::Float32, dims)
    }

    fn i64(name: &str, dims: &[i64]) -> Port {
        port(name, TensorElementType::Int64, dims)
    }

    fn find(inputs: &[Port], outputs: &[Port]) -> Result<Roles> {
        Roles::find(inputs, outputs, &ModelOverrides::default(), MODEL)
    }

    const OPEN: &[i64] = &[-1, 3, -1, -1];

    fn open_roles() -> Roles {
        find(&[f32("sample", OPEN), i64("timestep", &[-1])], &[f32("out", OPEN)]).unwrap()
    }

    #[test]
    fn type_and_rank_are_enough_whatever_the_names_and_order() {
        let roles = find(&[i64("b", &[]), f32("a", OPEN)], &[f32("c", OPEN)]).unwrap();
        assert_eq!(roles.sample.name, "a");
        assert_eq!(roles.timestep.name, "b");
        assert_eq!(roles.timestep.shape, TimestepShape::Scalar);
        assert_eq!(roles.output.name, "c");
        assert_eq!(roles.sample.dims, [None, Some(3), None, None]);
    }

    #[test]
    fn names_settle_what_type_and_rank_leave_open() {
        let inputs = [f32("sample", OPEN), f32("t", &[1])];
        let roles = find(&inputs, &[f32("aux", OPEN), f32("eps", OPEN)]).unwrap();
        assert_eq!(roles.output.name, "eps");
        assert_eq!(roles.timestep.shape, TimestepShape::One);
    }

    #[test]
    fn an_override_wins_and_must_fit() {
        let inputs = [f32("sample", OPEN), i64("timestep", &[-1])];
        let outputs = [f32("first", OPEN), f32("second", OPEN), f32("flat", &[-1])];
        let with = |output: &str| {
            let output = Some(output.to_owned());
            let overrides = ModelOverrides { output, ..ModelOverrides::default() };
            Roles::find(&inputs, &outputs, &overrides, MODEL)
        };
        assert_eq!(with("second").unwrap().output.name, "second");
        let error = with("flat").unwrap_err().to_string();
        assert!(error.contains("\"flat\" float32 [?] does not fit"), "{error}");
        let error = with("none").unwrap_err().to_string();
        assert!(error.contains("no output is named \"none\""), "{error}");
    }

    #[test]
    fn what_is_ambiguous_or_missing_is_refused_with_a_list() {
        let sample = || f32("sample", OPEN);
        let time = || i64("timestep", &[-1]);
        let out = || f32("out", OPEN);
        let cases: [(Vec<Port>, Vec<Port>, &str); 5] = [
            (vec![time()], vec![out()], "no input can be the sample"),
            (vec![sample()], vec![out()], "no input can be the timestep"),
            (vec![sample(), time()], vec![f32("flat", &[-1])], "no output can be the output"),
            (
                vec![sample(), time()],
                vec![f32("aux", OPEN), f32("main", OPEN)],
                "more than one output may be the output",
            ),
            (
                vec![sample(), time(), f32("context", &[-1, 77, 768])],
                vec![out()],
                "input \"context\" float32 [?, 77, 768] is required",
            ),
        ];
        for (inputs, outputs, expected) in cases {
            let error = find(&inputs, &outputs).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            let text = error.to_string();
            assert!(text.starts_with(&format!("m.onnx: {expected}")), "{text}");
            assert!(text.contains("puts: \""), "{text}");
        }
    }

    #[test]
    fn a_label_input_is_unsupported_by_name() {
        let inputs = [f32("sample", OPEN), i64("timestep", &[-1]), i64("class_labels", &[-1])];
        let error = find(&inputs, &[f32("out", OPEN)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().contains("\"class_labels\" int64 [?] takes class labels"),
            "{error}"
        );
    }

    #[test]
    fn the_size_is_the_callers_then_the_graphs_then_the_metadatas() {
        let roles = open_roles();
        let metadata = Metadata { height: Some(16), width: Some(24), ..Metadata::default() };
        let none = ModelOverrides::default();
        assert_eq!(roles.shape(&none, &metadata, MODEL).unwrap(), [3, 16, 24]);
        let given = ModelOverrides { height: Some(8), ..ModelOverrides::default() };
        assert_eq!(roles.shape(&given, &metadata, MODEL).unwrap(), [3, 8, 24]);
        let fixed =
            find(&[f32("sample", &[-1, 3, 32, 48]), i64("timestep", &[-1])], &[f32("out", OPEN)])
                .unwrap();
        assert_eq!(fixed.shape(&none, &metadata, MODEL).unwrap(), [3, 32, 48]);
        let error = fixed.shape(&given, &metadata, MODEL).unwrap_err().to_string();
        assert!(error.contains("height: found 8, expected 32"), "{error}");
        let error = roles.shape(&none, &Metadata::default(), MODEL).unwrap_err().to_string();
        assert!(error.contains("the height is open") && error.contains("ddpm.height"), "{error}");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let roles = open_roles();
        for (height, width) in [(0x7fff_ffff, 0x7fff_ffff), (0, 8), (16384, 16384)] {
            let overrides = ModelOverrides {
                height: Some(height),
                width: Some(width),
                ..ModelOverrides::default()
            };
            let error = roles.shape(&overrides, &Metadata::default(), MODEL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
    }

    #[test]
    fn channels_come_from_the_graph_or_the_color() {
        let dims: &[i64] = &[-1, -1, 8, 8];
        let roles =
            find(&[f32("sample", dims), i64("timestep", &[-1])], &[f32("out", dims)]).unwrap();
        let none = ModelOverrides::default();
        let metadata = Metadata { color: Some(Color::Rgba), ..Metadata::default() };
        assert_eq!(roles.shape(&none, &metadata, MODEL).unwrap(), [4, 8, 8]);
        let error = roles.shape(&none, &Metadata::default(), MODEL).unwrap_err().to_string();
        assert!(error.contains("leaves its channels open"), "{error}");
    }

    #[test]
    fn outputs_that_do_not_fit_the_sample_are_refused() {
        let with = |output: &[i64]| {
            let inputs = [f32("sample", &[-1, 3, 8, 8]), i64("timestep", &[-1])];
            let roles = find(&inputs, &[f32("out", output)]).unwrap();
            roles.shape(&ModelOverrides::default(), &Metadata::default(), MODEL).unwrap_err()
        };
        assert_eq!(with(&[-1, 6, 8, 8]).kind(), ErrorKind::Unsupported);
        assert_eq!(with(&[-1, 1, 8, 8]).kind(), ErrorKind::Model);
        assert_eq!(with(&[-1, 3, 4, 8]).kind(), ErrorKind::Model);
    }

    #[test]
    fn a_fixed_batch_is_known_and_must_agree() {
        let with = |input: i64, output: i64| {
            let inputs = [f32("sample", &[input, 3, 8, 8]), i64("timestep", &[-1])];
            find(&inputs, &[f32("out", &[output, 3, 8, 8])]).unwrap().fixed_batch(MODEL)
        };
        assert_eq!(with(-1, -1).unwrap(), None);
        assert_eq!(with(2, -1).unwrap(), Some(2));
        assert!(with(2, 3).is_err());
    }
}
