//! What a model file declares, read from its bytes before any session is made of it.
//!
//! Only what is at the top is looked at; the weights are passed by. Field numbers are those of onnx.proto3.

use std::collections::HashSet;

use ort::value::TensorElementType;

use super::ports::Port;
use super::protobuf::{Fields, Value};

const MODEL_OPSET_IMPORT: u64 = 8;
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const TENSOR_NAME: u64 = 8;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// The version of the standard operators; 0 where none is said.
    pub(super) opset: i64,
    /// Without those that have a value of their own.
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

impl Declared {
    /// What is no model declares nothing.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let is_standard = |domain: Option<Value<'_>>| {
            matches!(domain.and_then(Value::text).unwrap_or(""), "" | "ai.onnx")
        };
        let opset = Fields::of(bytes)
            .all(MODEL_OPSET_IMPORT)
            .filter(|import| is_standard(import.fields().last(1)))
            .filter_map(|import| import.fields().last(2)?.int())
            .last();
        // A message in parts is the same as one in one piece.
        let graphs = || Fields::of(bytes).all(MODEL_GRAPH).flat_map(Value::fields);
        let parts =
            |number| graphs().filter_map(move |(found, value)| (found == number).then_some(value));
        let valued: HashSet<_> = parts(GRAPH_INITIALIZER)
            .filter_map(|tensor| tensor.fields().last(TENSOR_NAME)?.text())
            .collect();
        let mut inputs: Vec<_> = parts(GRAPH_INPUT).map(port).collect();
        inputs.retain(|port| !valued.contains(port.name.as_str()));
        let outputs = parts(GRAPH_OUTPUT).map(port).collect();
        Self { opset: opset.unwrap_or(0), inputs, outputs }
    }
}

/// From a ValueInfoProto.
fn port(value: Value<'_>) -> Port {
    let name = value.fields().last(1).and_then(Value::text).unwrap_or("").to_owned();
    let tensor = value.fields().last(2).and_then(|kind| kind.fields().last(1));
    let number = tensor.and_then(|tensor| element_type(tensor.fields().last(1)?.int()?));
    let dims = tensor.and_then(|tensor| tensor.fields().last(2));
    let dim = |dim: Value<'_>| dim.fields().last(1)?.int()?.try_into().ok();
    Port {
        name,
        number,
        dims: dims.map_or_else(Vec::new, |d| d.fields().all(1).map(dim).collect()),
    }
}

/// Of those that a role may have.
fn element_type(number: i64) -> Option<TensorElementType> {
    Some(match number {
        1 => TensorElementType::Float32,
        2 => TensorElementType::Uint8,
        3 => TensorElementType::Int8,
        4 => TensorElementType::Uint16,
        5 => TensorElementType::Int16,
        6 => TensorElementType::Int32,
        7 => TensorElementType::Int64,
        8 => TensorElementType::String,
        9 => TensorElementType::Bool,
        10 => TensorElementType::Float16,
        11 => TensorElementType::Float64,
        12 => TensorElementType::Uint32,
        13 => TensorElementType::Uint64,
        16 => TensorElementType::Bfloat16,
        _ => return None,
    })
}
