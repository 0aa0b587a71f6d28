//! Nodes and initialisers of an ONNX graph under construction. Field numbers are those of onnx.proto3.

use std::collections::HashSet;

use ddpm::onnx::protobuf::Message;

pub const FLOAT: i64 = 1;
const INT64: i64 = 7;

fn attribute(name: &str, kind: i64) -> Message {
    Message::default().text(1, name).int(20, kind)
}

/// An attribute that is a float.
pub fn float(name: &str, value: f32) -> Message {
    attribute(name, 1).float(2, value)
}

/// An attribute that is an integer.
pub fn int(name: &str, value: i64) -> Message {
    attribute(name, 2).int(3, value)
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> Message {
    attribute(name, 7).ints(8, values)
}

enum Dim {
    Batch,
    Fixed(usize),
}

fn value_info(name: &str, element: i64, dims: &[Dim]) -> Message {
    let shape = Message::default().messages(
        1,
        dims.iter().map(|dim| match dim {
            Dim::Batch => Message::default().text(2, "batch"),
            Dim::Fixed(size) => Message::default().int(1, *size as i64),
        }),
    );
    let tensor = Message::default().int(1, element).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}

/// A graph under construction: values are known by their names.
#[derive(Default)]
pub struct Nodes {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    counter: usize,
    /// Names of the constants of [`Nodes::fill`] that are there already.
    fills: HashSet<String>,
}

impl Nodes {
    /// A name that no other value has.
    pub fn fresh(&mut self, op: &str) -> String {
        self.counter += 1;
        format!("{}_{}", op.to_ascii_lowercase(), self.counter)
    }

    /// Adds a node.
    pub fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        let node = outputs.iter().fold(node, |node, output| node.text(2, output));
        self.nodes.push(node.text(3, outputs[0]).text(4, op).messages(5, attributes));
    }

    /// Adds a node with one new output and names it.
    pub fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = self.fresh(op);
        self.node(op, inputs, &[&output], attributes);
        output
    }

    /// Nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Moves the nodes from number `from` on to before node number `to`: a node must stand before
    /// those that use it.
    pub fn move_before(&mut self, from: usize, to: usize) {
        let moved = self.nodes.len() - from;
        self.nodes[to..].rotate_right(moved);
    }

    fn initializer(&mut self, name: &str, kind: i64, shape: &[usize], data: &[u8]) {
        let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        self.initializers
            .push(Message::default().ints(1, &dims).int(2, kind).text(8, name).bytes(9, data));
    }

    /// A constant tensor under this name.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, FLOAT, shape, &data);
        name.to_string()
    }

    /// A constant vector of equal values; the same one whenever asked for again.
    pub fn fill(&mut self, name: &str, value: f32, length: usize) -> String {
        let name = format!("{name}_{length}");
        if self.fills.insert(name.clone()) {
            self.constant(&name, &[length], &vec![value; length]);
        }
        name
    }

    /// A constant vector of integers: a shape, sizes, positions.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = self.fresh("integers");
        self.initializer(&name, INT64, &[values.len()], &data);
        name
    }

    /// Another shape for `x`; 0 keeps the size that `x` has at that place.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.integers(shape);
        self.op("Reshape", &[x, &shape], Vec::new())
    }

    pub fn concat(&mut self, parts: &[&str], axis: i64) -> String {
        self.op("Concat", parts, vec![int("axis", axis)])
    }

    pub fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], vec![ints("perm", order)])
    }

    /// The GraphProto of a network that maps images and timesteps to images.
    pub fn into_graph(
        self,
        [sample, timestep, out]: [&str; 3],
        [channels, height, width]: [usize; 3],
    ) -> Message {
        let image = [Dim::Batch, Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)];
        Message::default()
            .messages(1, self.nodes)
            .text(2, "unet")
            .messages(5, self.initializers)
            .message(11, value_info(sample, FLOAT, &image))
            .message(11, value_info(timestep, INT64, &[Dim::Batch]))
            .message(12, value_info(out, FLOAT, &image))
    }
}
