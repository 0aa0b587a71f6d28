//! Parts of an ONNX file as protocol buffer messages, to be put into a graph. Field numbers are those of
//! onnx.proto3.

use super::protobuf::Message;

/// The number types of TensorProto.DataType that are written.
pub const FLOAT: i64 = 1;
/// 64-bit integers.
pub const INT64: i64 = 7;
/// 16-bit floats.
pub const FLOAT16: i64 = 10;
/// 64-bit floats.
pub const DOUBLE: i64 = 11;

/// The field of a GraphProto that a [`node`] goes into.
pub const GRAPH_NODE: u32 = 1;
/// That of a [`tensor`].
pub const GRAPH_INITIALIZER: u32 = 5;
/// That of a [`port`] that is an input.
pub const GRAPH_INPUT: u32 = 11;
/// That of a [`port`] that is an output.
pub const GRAPH_OUTPUT: u32 = 12;

/// A NodeProto.
pub fn node(
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<Message>,
) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    let node = outputs.iter().fold(node, |node, output| node.text(2, output));
    node.text(3, name).text(4, op).messages(5, attributes)
}

fn attribute(name: &str, kind: i64) -> Message {
    Message::default().text(1, name).int(20, kind)
}

/// An AttributeProto that is a float.
pub fn float(name: &str, value: f32) -> Message {
    attribute(name, 1).float(2, value)
}

/// One that is an integer.
pub fn int(name: &str, value: i64) -> Message {
    attribute(name, 2).int(3, value)
}

/// One that is a text.
pub fn text(name: &str, value: &str) -> Message {
    attribute(name, 3).text(4, value)
}

/// One that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> Message {
    attribute(name, 7).ints(8, values)
}

/// A TensorProto of these values, which are little-endian.
pub fn tensor(name: &str, number: i64, shape: &[usize], values: &[u8]) -> Message {
    let dims: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Message::default().ints(1, &dims).int(2, number).text(8, name).bytes(9, values)
}

/// One of integers in a row: a shape, sizes, positions.
pub fn integers(name: &str, values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, INT64, &[values.len()], &bytes)
}

/// One of floats.
pub fn floats(name: &str, shape: &[usize], values: &[f32]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, FLOAT, shape, &bytes)
}

/// A dimension of an input or an output.
#[derive(Clone, Copy, Debug)]
pub enum Dim<'a> {
    /// Known.
    Fixed(usize),
    /// Open, and the same wherever it has this name.
    Named(&'a str),
    /// Open.
    Open,
}

/// A ValueInfoProto: an input or an output.
pub fn port<'a>(name: &str, number: i64, dims: impl IntoIterator<Item = Dim<'a>>) -> Message {
    let dim = |dim| match dim {
        Dim::Fixed(size) => Message::default().int(1, size as i64),
        Dim::Named(name) => Message::default().text(2, name),
        Dim::Open => Message::default(),
    };
    let shape = Message::default().messages(1, dims.into_iter().map(dim));
    let tensor = Message::default().int(1, number).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}
