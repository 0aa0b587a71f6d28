//! The tensors of one batch size, bound to a session once and reused by every run.
//!
//! On the CPU the session reads and writes these very buffers. On another device a bound input is
//! copied when it is bound, so inputs are bound again before each run there.

use half::f16;
use ort::memory::Allocator;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{PrimitiveTensorElementType, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::model::ModelConfig;

use super::fused::Extra;
use super::ports::{Image, Label, TimestepType, ValueShape};
use super::roles::Roles;

/// A sample-shaped tensor of the type the graph declares.
#[derive(Debug)]
pub(super) enum ImageTensor {
    F32(Tensor<f32>),
    F16(Tensor<f16>),
}

/// A timestep tensor of the type the graph declares.
#[derive(Debug)]
enum TimestepTensor {
    I64(Tensor<i64>),
    I32(Tensor<i32>),
    F32(Tensor<f32>),
    F16(Tensor<f16>),
    F64(Tensor<f64>),
}

/// A class label tensor of the type the graph declares.
#[derive(Debug)]
enum LabelTensor {
    I64(Tensor<i64>),
    I32(Tensor<i32>),
}

/// What one run of the model is fed.
#[derive(Clone, Copy)]
pub(super) struct Feed<'a> {
    /// [N, C, H, W].
    pub(super) sample: &'a [f32],
    /// N of them.
    pub(super) timesteps: &'a [f64],
    /// N of them, or none for a model without classes.
    pub(super) labels: &'a [i64],
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Binding {
    batch: usize,
    binding: IoBinding,
    sample: ImageTensor,
    conditions: Conditions,
    output: ImageTensor,
    rebind: bool,
    /// For a graph with a fused step, whose inputs are bound to zeros.
    _idle: Option<Extra>,
}

/// The tensors by which samples get their timesteps and labels.
#[derive(Debug)]
pub(super) struct Conditions {
    timestep: TimestepTensor,
    label: Option<LabelTensor>,
}

impl Conditions {
    pub(super) fn new(roles: &Roles, batch: usize) -> ort::Result<Self> {
        let label = roles.label.as_ref().map(|label| LabelTensor::new(label, batch)).transpose()?;
        Ok(Self { timestep: TimestepTensor::new(roles, batch)?, label })
    }

    /// Errors: `Unsupported` and `InvalidArgument`, see below.
    pub(super) fn write(&mut self, roles: &Roles, timesteps: &[f64], labels: &[i64]) -> Result<()> {
        self.timestep.write(timesteps, &roles.timestep.name)?;
        match (&roles.label, &mut self.label) {
            (Some(label), Some(tensor)) => tensor.write(labels, &label.name),
            _ => Ok(()),
        }
    }

    pub(super) fn bind(&self, binding: &mut IoBinding, roles: &Roles) -> ort::Result<()> {
        let name = roles.timestep.name.as_str();
        match &self.timestep {
            TimestepTensor::I64(tensor) => binding.bind_input(name, tensor),
            TimestepTensor::I32(tensor) => binding.bind_input(name, tensor),
            TimestepTensor::F32(tensor) => binding.bind_input(name, tensor),
            TimestepTensor::F16(tensor) => binding.bind_input(name, tensor),
            TimestepTensor::F64(tensor) => binding.bind_input(name, tensor),
        }?;
        match (&roles.label, &self.label) {
            (Some(label), Some(LabelTensor::I64(tensor))) => {
                binding.bind_input(label.name.as_str(), tensor)
            }
            (Some(label), Some(LabelTensor::I32(tensor))) => {
                binding.bind_input(label.name.as_str(), tensor)
            }
            _ => Ok(()),
        }
    }
}

impl Binding {
    /// Allocates and binds for `batch` samples of the model. `rebind` where the session does not run
    /// on the CPU; `is_fused` where its graph has a fused step, which then works on nothing.
    pub(super) fn new(
        session: &Session,
        roles: &Roles,
        batch: usize,
        model: &ModelConfig,
        (rebind, is_fused): (bool, bool),
    ) -> ort::Result<Self> {
        let dims = |channels| [batch, channels, model.height, model.width];
        let host = Allocator::default();
        let item = model.channels * model.height * model.width;
        let mut bound = Self {
            batch,
            binding: session.create_binding()?,
            sample: ImageTensor::new(&roles.sample, dims(model.channels), &host)?,
            conditions: Conditions::new(roles, batch)?,
            output: ImageTensor::new(&roles.output, dims(model.output_channels()), &host)?,
            rebind,
            _idle: is_fused.then(|| Extra::zeros(batch, item)).transpose()?,
        };
        if let Some(idle) = &bound._idle {
            idle.bind(&mut bound.binding)?;
        }
        bound.bind_inputs(roles)?;
        bound.output.bind_output(&mut bound.binding, &roles.output.name)?;
        Ok(bound)
    }

    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    fn bind_inputs(&mut self, roles: &Roles) -> ort::Result<()> {
        self.sample.bind_input(&mut self.binding, &roles.sample.name)?;
        self.conditions.bind(&mut self.binding, roles)
    }

    /// Feeds, runs, and copies the output out. Lengths are the caller's to get right. Blocks for the
    /// run.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        options: &RunOptions,
        roles: &Roles,
        feed: Feed<'_>,
        output: &mut [f32],
    ) -> Result<()> {
        self.sample.write_all(feed.sample.iter().copied());
        self.conditions.write(roles, feed.timesteps, feed.labels)?;
        let fault =
            |error: ort::Error| Error::new(ErrorKind::Inference, error.message().trim_end());
        if self.rebind {
            self.bind_inputs(roles).map_err(fault)?;
        }
        session.run_binding_with_options(&self.binding, options).map_err(fault)?;
        self.output.read(output);
        Ok(())
    }
}

impl ImageTensor {
    pub(super) fn new(image: &Image, dims: [usize; 4], allocator: &Allocator) -> ort::Result<Self> {
        Ok(if image.half {
            Self::F16(Tensor::new(allocator, dims)?)
        } else {
            Self::F32(Tensor::new(allocator, dims)?)
        })
    }

    pub(super) fn bind_input(&self, binding: &mut IoBinding, name: &str) -> ort::Result<()> {
        match self {
            Self::F32(tensor) => binding.bind_input(name, tensor),
            Self::F16(tensor) => binding.bind_input(name, tensor),
        }
    }

    pub(super) fn bind_output(&mut self, binding: &mut IoBinding, name: &str) -> ort::Result<()> {
        match self {
            Self::F32(tensor) => binding.bind_output(name, tensor),
            Self::F16(tensor) => binding.bind_output(name, tensor),
        }
    }

    /// For one in the memory of the host.
    pub(super) fn write_all(&mut self, values: impl Iterator<Item = f32>) {
        match self {
            Self::F32(tensor) => {
                let pairs = tensor.extract_tensor_mut().1.iter_mut().zip(values);
                pairs.for_each(|(to, from)| *to = from);
            }
            Self::F16(tensor) => {
                let pairs = tensor.extract_tensor_mut().1.iter_mut().zip(values);
                pairs.for_each(|(to, from)| *to = f16::from_f32(from));
            }
        }
    }

    fn read(&self, values: &mut [f32]) {
        match self {
            Self::F32(tensor) => values.copy_from_slice(tensor.extract_tensor().1),
            Self::F16(tensor) => {
                let pairs = values.iter_mut().zip(tensor.extract_tensor().1);
                pairs.for_each(|(to, from)| *to = from.to_f32());
            }
        }
    }
}

fn values<T: PrimitiveTensorElementType + std::fmt::Debug>(
    shape: ValueShape,
    batch: usize,
) -> ort::Result<Tensor<T>> {
    let allocator = Allocator::default();
    match shape {
        ValueShape::Scalar => Tensor::new(&allocator, [0usize; 0]),
        ValueShape::One => Tensor::new(&allocator, [1usize]),
        ValueShape::PerSample => Tensor::new(&allocator, [batch]),
    }
}

impl LabelTensor {
    fn new(label: &Label, batch: usize) -> ort::Result<Self> {
        Ok(if label.wide {
            Self::I64(values(label.shape, batch)?)
        } else {
            Self::I32(values(label.shape, batch)?)
        })
    }

    /// Writes one label for each sample, or the one that they share.
    ///
    /// Errors: `Unsupported` where the samples differ and the input takes one value;
    /// `InvalidArgument` for a label that is no int32 where the input takes that.
    fn write(&mut self, labels: &[i64], name: &str) -> Result<()> {
        match self {
            Self::I64(tensor) => fill(tensor.extract_tensor_mut().1, labels, "label", name, |l| l),
            Self::I32(tensor) => {
                if let Some(label) = labels.iter().find(|label| i32::try_from(**label).is_err()) {
                    return Err(Error::invalid_argument(format!(
                        "class: found {label}, but input \"{name}\" is int32"
                    )));
                }
                fill(tensor.extract_tensor_mut().1, labels, "label", name, |label| label as i32)
            }
        }
    }
}

impl TimestepTensor {
    fn new(roles: &Roles, batch: usize) -> ort::Result<Self> {
        let shape = roles.timestep.shape;
        Ok(match roles.timestep.number {
            TimestepType::I64 => Self::I64(values(shape, batch)?),
            TimestepType::I32 => Self::I32(values(shape, batch)?),
            TimestepType::F32 => Self::F32(values(shape, batch)?),
            TimestepType::F16 => Self::F16(values(shape, batch)?),
            TimestepType::F64 => Self::F64(values(shape, batch)?),
        })
    }

    /// Writes one value for each sample, or the one that they share.
    ///
    /// Errors: `Unsupported` where the samples differ and the input takes one value, and where a
    /// fraction meets an integer input: rounding would sample another schedule in silence.
    fn write(&mut self, timesteps: &[f64], name: &str) -> Result<()> {
        let whole = |what: &str| match timesteps.iter().find(|t| t.fract() != 0.0) {
            None => Ok(()),
            Some(t) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("timestep {t} is fractional, but input \"{name}\" is {what}"),
            )),
        };
        let what = "timestep";
        match self {
            Self::I64(tensor) => {
                whole("int64")?;
                fill(tensor.extract_tensor_mut().1, timesteps, what, name, |t| t as i64)
            }
            Self::I32(tensor) => {
                whole("int32")?;
                fill(tensor.extract_tensor_mut().1, timesteps, what, name, |t| t as i32)
            }
            Self::F32(tensor) => {
                fill(tensor.extract_tensor_mut().1, timesteps, what, name, |t| t as f32)
            }
            Self::F16(tensor) => {
                fill(tensor.extract_tensor_mut().1, timesteps, what, name, f16::from_f64)
            }
            Self::F64(tensor) => fill(tensor.extract_tensor_mut().1, timesteps, what, name, |t| t),
        }
    }
}

/// Casts `values` into `target`: each into its own place, or all into one where they agree.
fn fill<S: Copy + PartialEq + std::fmt::Debug, T>(
    target: &mut [T],
    values: &[S],
    what: &str,
    name: &str,
    cast: impl Fn(S) -> T,
) -> Result<()> {
    if target.len() == values.len() {
        for (to, &from) in target.iter_mut().zip(values) {
            *to = cast(from);
        }
        return Ok(());
    }
    match (target, values) {
        ([to], [first, rest @ ..]) if rest.iter().all(|value| value == first) => {
            *to = cast(*first);
            Ok(())
        }
        (target, _) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "input \"{name}\" takes {} {what} for the whole batch, found {values:?}",
                target.len()
            ),
        )),
    }
}
