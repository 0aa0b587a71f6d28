//! The inputs and outputs that a graph declares, what of a role each may be, and the choice of one.
//!
//! What is unknown or ambiguous is refused with every input or output listed, never guessed at and
//! never left to the first step. This module must not know what a role is for.

use std::fmt;

use ort::value::{Outlet, TensorElementType, ValueType};

use crate::error::{Error, ErrorKind, Result};

/// One input or output as the graph declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// `None` for what is no tensor.
    pub(super) number: Option<TensorElementType>,
    /// `None` for the dimensions that the graph leaves open.
    pub(super) dims: Vec<Option<usize>>,
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

impl Port {
    /// Whether its name is one of those known for a role.
    pub(super) fn is_named(&self, known: &[&str]) -> bool {
        known.iter().any(|known| self.name.eq_ignore_ascii_case(known))
    }

    fn value_shape(&self) -> Option<ValueShape> {
        match self.dims[..] {
            [] => Some(ValueShape::Scalar),
            [Some(1)] => Some(ValueShape::One),
            [_] => Some(ValueShape::PerSample),
            _ => None,
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

impl Image {
    pub(super) fn of(port: &Port) -> Option<Self> {
        let dims = port.dims.as_slice().try_into().ok()?;
        Some(Self { name: port.name.clone(), half: Self::is_half(port)?, dims })
    }

    /// As [`of`](Self::of), and also what the runtime knows no shape of, which it tells as rank 0.
    pub(super) fn of_any_shape(port: &Port) -> Option<Self> {
        match port.dims[..] {
            [] => {
                Some(Self { name: port.name.clone(), half: Self::is_half(port)?, dims: [None; 4] })
            }
            _ => Self::of(port),
        }
    }

    fn is_half(port: &Port) -> Option<bool> {
        match port.number? {
            TensorElementType::Float32 => Some(false),
            TensorElementType::Float16 => Some(true),
            _ => None,
        }
    }
}

/// The shape of an input that takes one number a sample, or one for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueShape {
    /// Rank 0: one for the batch.
    Scalar,
    /// [1]: one for the batch.
    One,
    /// [N]: one for each sample.
    PerSample,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timestep {
    pub(super) name: String,
    pub(super) number: TimestepType,
    pub(super) shape: ValueShape,
}

impl Timestep {
    pub(super) fn of(port: &Port) -> Option<Self> {
        let number = match port.number? {
            TensorElementType::Int64 => TimestepType::I64,
            TensorElementType::Int32 => TimestepType::I32,
            TensorElementType::Float32 => TimestepType::F32,
            TensorElementType::Float16 => TimestepType::F16,
            TensorElementType::Float64 => TimestepType::F64,
            _ => return None,
        };
        Some(Self { name: port.name.clone(), number, shape: port.value_shape()? })
    }

    /// Whether it takes whole timesteps only.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.number, TimestepType::I64 | TimestepType::I32)
    }
}

/// The input that takes class labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: String,
    /// int64 where true, else int32.
    pub(super) wide: bool,
    /// [1] or [N].
    pub(super) shape: ValueShape,
}

impl Label {
    pub(super) fn of(port: &Port) -> Option<Self> {
        let wide = match port.number? {
            TensorElementType::Int64 => true,
            TensorElementType::Int32 => false,
            _ => return None,
        };
        let shape = port.value_shape().filter(|shape| *shape != ValueShape::Scalar)?;
        Some(Self { name: port.name.clone(), wide, shape })
    }
}

/// The inputs, or the outputs, of one model.
#[derive(Clone, Copy)]
pub(super) struct Ports<'a> {
    pub(super) model: &'a str,
    pub(super) what: &'static str,
    pub(super) ports: &'a [Port],
}

impl<'a> Ports<'a> {
    /// The port called `name`, which must fit the role.
    pub(super) fn named<T>(
        &self,
        role: &str,
        name: &str,
        fit: impl Fn(&Port) -> Option<T>,
    ) -> Result<T> {
        let Self { model, what, ports } = self;
        let port = ports.iter().find(|port| port.name == name).ok_or_else(|| {
            refuse(format!("{model}: no {what} is named \"{name}\"; {}", self.list()))
        })?;
        fit(port)
            .ok_or_else(|| refuse(format!("{model}: {what} {port} does not fit the role: {role}")))
    }

    /// The port that `fit` accepts: the one named, else the only one, else the one with a name
    /// that is known for the role.
    pub(super) fn pick<T>(
        &self,
        role: &str,
        named: Option<&str>,
        known: &[&str],
        fit: impl Fn(&Port) -> Option<T>,
    ) -> Result<T> {
        if let Some(name) = named {
            return self.named(role, name, fit);
        }
        let fitting: Vec<&Port> = self.ports.iter().filter(|port| fit(port).is_some()).collect();
        let chosen = match fitting[..] {
            [only] => Some(only),
            _ => best_named(&fitting, known),
        };
        chosen.and_then(fit).ok_or_else(|| self.undecided(role, fitting.len()))
    }

    /// The error of a role that `fitting` ports may have.
    pub(super) fn undecided(&self, role: &str, fitting: usize) -> Error {
        let Self { model, what, .. } = self;
        if fitting == 0 {
            return refuse(format!("{model}: no {what} can be the {role}; {}", self.list()));
        }
        let role = role.split(" (").next().unwrap_or(role);
        refuse(format!(
            "{model}: more than one {what} may be the {role}; name it when loading; {}",
            self.list()
        ))
    }

    /// The error of a port that no role takes.
    pub(super) fn left_over(&self, port: &Port) -> Error {
        let Self { model, what, .. } = self;
        refuse(format!(
            "{model}: {what} {port} is required, expected a sample, a timestep, perhaps class labels (int64 or int32 of rank 1), and no other; {}",
            self.list()
        ))
    }

    fn list(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(Port::to_string).collect();
        let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
        format!("{}s: {ports}", self.what)
    }
}

/// The port whose name comes first among the known ones.
pub(super) fn best_named<'a>(ports: &[&'a Port], known: &[&str]) -> Option<&'a Port> {
    known.iter().find_map(|known| ports.iter().copied().find(|port| port.is_named(&[known])))
}

pub(super) fn refuse(message: String) -> Error {
    Error::new(ErrorKind::Model, message)
}

pub(super) fn dims_text(dims: &[Option<usize>]) -> String {
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
