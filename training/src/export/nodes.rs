//! Nodes and initialisers of an ONNX graph under construction.

use std::collections::HashSet;

use ddpm::onnx::messages::{
    self, FLOAT, FLOAT16, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT, int, ints,
};
use ddpm::onnx::protobuf::Message;
use half::f16;

use super::Precision;

/// A graph under construction: values are known by their names.
pub struct Nodes {
    precision: Precision,
    /// What enlarges stored weights; stands before all nodes.
    casts: Vec<Message>,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    counter: usize,
    /// Names of the constants of [`Nodes::fill`] that are there already.
    fills: HashSet<String>,
}

impl Nodes {
    /// An empty graph whose floats are stored and computed as `precision` says.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            casts: Vec::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            counter: 0,
            fills: HashSet::new(),
        }
    }

    /// A name that no other value has.
    pub fn fresh(&mut self, op: &str) -> String {
        self.counter += 1;
        format!("{}_{}", op.to_ascii_lowercase(), self.counter)
    }

    /// Adds a node.
    pub fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        self.nodes.push(messages::node(outputs[0], op, inputs, outputs, attributes));
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

    /// A constant tensor under this name, of the numbers that are computed with.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        match self.precision {
            Precision::F16 => self.halves(name, shape, values),
            Precision::F32 | Precision::F16Weights => self.floats(name, shape, values),
        }
    }

    /// A constant tensor of float32 under this name.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.initializers.push(messages::floats(name, shape, values));
        name.to_string()
    }

    fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> =
            values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        self.initializers.push(messages::tensor(name, FLOAT16, shape, &bytes));
        name.to_string()
    }

    /// A constant tensor that is stored under this name as small as the precision allows. Vectors,
    /// which are the biases and norms, are not worth rounding.
    pub fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        if self.precision != Precision::F16Weights || shape.len() < 2 {
            return self.constant(name, shape, values);
        }
        let stored = self.halves(name, shape, values);
        let name = self.fresh("weight");
        let to = vec![int("to", FLOAT)];
        self.casts.push(messages::node(&name, "Cast", &[&stored], &[&name], to));
        name
    }

    /// `x`, which is float32, as what is computed with.
    pub fn lowered(&mut self, x: &str) -> String {
        match self.precision {
            Precision::F16 => self.op("Cast", &[x], vec![int("to", FLOAT16)]),
            Precision::F32 | Precision::F16Weights => x.to_string(),
        }
    }

    /// `x`, which is what is computed with, as float32.
    pub fn raised(&mut self, x: &str) -> String {
        match self.precision {
            Precision::F16 => self.op("Cast", &[x], vec![int("to", FLOAT)]),
            Precision::F32 | Precision::F16Weights => x.to_string(),
        }
    }

    /// Names a result, as float32.
    pub fn result(&mut self, x: &str, name: &str) {
        match self.precision {
            Precision::F16 => self.node("Cast", &[x], &[name], vec![int("to", FLOAT)]),
            Precision::F32 | Precision::F16Weights => {
                self.node("Identity", &[x], &[name], Vec::new());
            }
        }
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
        let name = self.fresh("integers");
        self.initializers.push(messages::integers(&name, values));
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

    /// The GraphProto with these inputs and this output, values of the graph.
    pub fn into_graph(self, inputs: Vec<Message>, output: Message) -> Message {
        Message::default()
            .messages(GRAPH_NODE, self.casts)
            .messages(GRAPH_NODE, self.nodes)
            .text(2, "unet")
            .messages(GRAPH_INITIALIZER, self.initializers)
            .messages(GRAPH_INPUT, inputs)
            .message(GRAPH_OUTPUT, output)
    }
}
