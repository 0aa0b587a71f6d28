//! An ONNX graph of convolutions with random weights, for models whose pictures nobody looks at.
//!
//! Layers are written as the trainer's export writes them, which is what runs fastest. Weights are
//! normal with variance 1 / inputs, so that the values keep their size and none is denormal.

use ddpm::onnx::messages::{
    self, Dim, FLOAT, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT, INT64, float, int,
    ints, port, text,
};
use ddpm::onnx::protobuf::Message;
use ddpm::rng::{Purpose, fill_standard_normal};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// Groups of the normalisations.
const GROUPS: usize = 32;

/// A value of the graph that holds an image of features, [n, channels, height, width].
#[derive(Clone)]
pub struct Map {
    name: String,
    height: usize,
    width: usize,
}

pub struct Graph {
    shape: [usize; 3],
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    values: u64,
}

impl Graph {
    /// A graph for samples of [channels, height, width].
    pub fn new(shape: [usize; 3]) -> Self {
        Self { shape, nodes: Vec::new(), initializers: Vec::new(), values: 0 }
    }

    pub fn sample(&self) -> Map {
        Map { name: "sample".to_owned(), height: self.shape[1], width: self.shape[2] }
    }

    /// The model's bytes; `out` is its output.
    pub fn finish(mut self, out: &Map) -> Vec<u8> {
        self.node("Identity", &[&out.name], &["out_sample"], Vec::new());
        let batch = Dim::Named("batch");
        let [channels, height, width] = self.shape.map(Dim::Fixed);
        let image = [batch, channels, height, width];
        let graph = Message::default()
            .messages(GRAPH_NODE, self.nodes)
            .text(2, "random")
            .messages(GRAPH_INITIALIZER, self.initializers)
            .message(GRAPH_INPUT, port("sample", FLOAT, image))
            .message(GRAPH_INPUT, port("timestep", INT64, [batch]))
            .message(GRAPH_OUTPUT, port("out_sample", FLOAT, image));
        Message::default()
            .int(1, IR_VERSION)
            .message(7, graph)
            .message(8, Message::default().text(1, "").int(2, OPSET))
            .into_bytes()
    }

    fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        self.nodes.push(messages::node(outputs[0], op, inputs, outputs, attributes));
    }

    fn fresh(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = self.fresh();
        self.node(op, inputs, &[&output], attributes);
        output
    }

    fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        let name = self.fresh();
        self.initializers.push(messages::floats(&name, shape, values));
        name
    }

    /// Random, for sums of so many products.
    fn weight(&mut self, shape: &[usize], inputs: usize) -> String {
        let mut values = vec![0.0; shape.iter().product()];
        fill_standard_normal(self.values, Purpose::InitialNoise, 0, &mut values);
        values.iter_mut().for_each(|value| *value /= (inputs as f32).sqrt());
        self.floats(shape, &values)
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let name = self.fresh();
        self.initializers.push(messages::integers(&name, shape));
        self.op("Reshape", &[x, &name], Vec::new())
    }

    /// Sinusoids of the timestep.
    pub fn sinusoids(&mut self, width: usize) -> String {
        let half = width / 2;
        let frequency = |i: usize| 10000f32.powf(-(i as f32) / half as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let frequencies = self.floats(&[1, half], &frequencies);
        let t = self.op("Cast", &["timestep"], vec![int("to", FLOAT)]);
        let t = self.reshape(&t, &[-1, 1]);
        let angle = self.op("Mul", &[&t, &frequencies], Vec::new());
        let (cos, sin) =
            (self.op("Cos", &[&angle], Vec::new()), self.op("Sin", &[&angle], Vec::new()));
        self.op("Concat", &[&cos, &sin], vec![int("axis", 1)])
    }

    pub fn linear(&mut self, x: &str, from: usize, to: usize) -> String {
        let weight = self.weight(&[from, to], from);
        let bias = self.weight(&[to], from);
        self.op("Gemm", &[x, &weight, &bias], Vec::new())
    }

    pub fn silu(&mut self, x: &str) -> String {
        let gate = self.op("Sigmoid", &[x], Vec::new());
        self.op("Mul", &[x, &gate], Vec::new())
    }

    pub fn silu_map(&mut self, x: &Map) -> Map {
        Map { name: self.silu(&x.name), ..*x }
    }

    /// With zero padding that keeps the size, or halves it where the stride is 2.
    pub fn conv(&mut self, x: &Map, from: usize, to: usize, k: usize, stride: usize) -> Map {
        let weight = self.weight(&[to, from, k, k], from * k * k);
        let bias = self.weight(&[to], from * k * k);
        let (kernel, reach) = (k as i64, k as i64 / 2);
        let attributes = vec![
            ints("kernel_shape", &[kernel; 2]),
            ints("pads", &[reach; 4]),
            ints("strides", &[stride as i64; 2]),
        ];
        let name = self.op("Conv", &[&x.name, &weight, &bias], attributes);
        Map { name, height: x.height / stride, width: x.width / stride }
    }

    /// Twice the size, nearest neighbour.
    pub fn enlarge(&mut self, x: &Map) -> Map {
        let scales = self.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
        let attributes = vec![
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        let name = self.op("Resize", &[&x.name, "", &scales], attributes);
        Map { name, height: 2 * x.height, width: 2 * x.width }
    }

    /// Group normalisation with scale and offset.
    pub fn norm(&mut self, x: &Map, channels: usize) -> Map {
        let one = self.floats(&[GROUPS], &[1.0; GROUPS]);
        let zero = self.floats(&[GROUPS], &[0.0; GROUPS]);
        let gamma = self.weight(&[channels, 1, 1], 1);
        let beta = self.weight(&[channels, 1, 1], 1);
        let grouped = self.reshape(&x.name, &[0, GROUPS as i64, -1]);
        let epsilon = vec![float("epsilon", 1e-6)];
        let normal = self.op("InstanceNormalization", &[&grouped, &one, &zero], epsilon);
        let normal = self.reshape(&normal, &[-1, channels as i64, x.height as i64, x.width as i64]);
        let scaled = self.op("Mul", &[&normal, &gamma], Vec::new());
        Map { name: self.op("Add", &[&scaled, &beta], Vec::new()), ..*x }
    }

    /// A vector added to every pixel.
    pub fn shift(&mut self, x: &Map, by: &str, channels: usize) -> Map {
        let by = self.reshape(by, &[-1, channels as i64, 1, 1]);
        Map { name: self.op("Add", &[&x.name, &by], Vec::new()), ..*x }
    }

    pub fn add(&mut self, a: &Map, b: &Map) -> Map {
        Map { name: self.op("Add", &[&a.name, &b.name], Vec::new()), ..*a }
    }

    pub fn concat(&mut self, a: &Map, b: &Map) -> Map {
        Map { name: self.op("Concat", &[&a.name, &b.name], vec![int("axis", 1)]), ..*a }
    }

    /// Scaled dot-product attention over all pixels; `qkv` holds queries, keys and values in turn.
    pub fn attend(&mut self, qkv: &Map, channels: usize) -> Map {
        let [query, key, value] = [self.fresh(), self.fresh(), self.fresh()];
        self.node("Split", &[&qkv.name], &[&query, &key, &value], vec![int("axis", 1)]);
        let shape = [-1, channels as i64, (qkv.height * qkv.width) as i64];
        let [query, key, value] = [query, key, value].map(|part| self.reshape(&part, &shape));
        let scale = self.floats(&[], &[1.0 / (channels as f32).sqrt()]);
        let query = self.op("Mul", &[&query, &scale], Vec::new());
        let turn = |g: &mut Self, x: &str| g.op("Transpose", &[x], vec![ints("perm", &[0, 2, 1])]);
        let query = turn(self, &query);
        let scores = self.op("MatMul", &[&query, &key], Vec::new());
        let weights = self.op("Softmax", &[&scores], vec![int("axis", -1)]);
        let value = turn(self, &value);
        let mixed = self.op("MatMul", &[&weights, &value], Vec::new());
        let mixed = turn(self, &mixed);
        let shape = [-1, channels as i64, qkv.height as i64, qkv.width as i64];
        Map { name: self.reshape(&mixed, &shape), ..*qkv }
    }
}
