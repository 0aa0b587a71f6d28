//! The network as an ONNX graph: a walker over the one definition, writing nodes.
//!
//! Maps are `[n, c, h, w]` here, ONNX Runtime's layout. Each layer is written in the form that
//! runs fastest there; group normalisation, for one, as an instance normalisation of `[n, groups, -1]`.

use anyhow::Result;

use super::protobuf::Message;
use crate::forward::frequency;
use crate::network::{Conv, Layers, UNetConfig, unet};
use crate::ops::group_norm::EPSILON;
use crate::parameters::Parameters;

/// Version of the operator set; any ONNX Runtime since 1.12 has it.
pub const OPSET: i64 = 17;

const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Names of the model's inputs and output.
const SAMPLE: &str = "sample";
const TIMESTEP: &str = "timestep";
const OUT_SAMPLE: &str = "out_sample";

/// Writes the network as a GraphProto. Fails where a weight cannot be read from its device.
pub fn build(
    config: &UNetConfig,
    parameters: &Parameters,
    [channels, height, width]: [usize; 3],
) -> Result<Message> {
    let mut walker = Builder {
        parameters,
        groups: config.groups,
        nodes: Vec::new(),
        initializers: Vec::new(),
        counter: 0,
        error: None,
    };
    let sample = Map { name: SAMPLE.to_string(), height, width };
    let out = unet(&mut walker, config, channels, &sample);
    walker.node("Identity", &[&out.name], OUT_SAMPLE, Vec::new());
    if let Some(error) = walker.error {
        return Err(error);
    }
    let image = || vec![Dim::Batch, Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)];
    Ok(Message::default()
        .messages(1, walker.nodes)
        .text(2, "unet")
        .messages(5, walker.initializers)
        .message(11, value_info(SAMPLE, FLOAT, &image()))
        .message(11, value_info(TIMESTEP, INT64, &[Dim::Batch]))
        .message(12, value_info(OUT_SAMPLE, FLOAT, &image())))
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

fn attribute(name: &str, kind: i64) -> Message {
    Message::default().text(1, name).int(20, kind)
}

fn float(name: &str, value: f32) -> Message {
    attribute(name, 1).float(2, value)
}

fn int(name: &str, value: i64) -> Message {
    attribute(name, 2).int(3, value)
}

fn string(name: &str, value: &str) -> Message {
    attribute(name, 3).text(4, value)
}

fn ints(name: &str, values: &[i64]) -> Message {
    attribute(name, 7).ints(8, values)
}

/// A value of the graph that holds an image of features.
#[derive(Clone)]
struct Map {
    name: String,
    height: usize,
    width: usize,
}

impl Map {
    fn resized(&self, name: String, height: usize, width: usize) -> Self {
        Self { name, height, width }
    }

    fn renamed(&self, name: String) -> Self {
        self.resized(name, self.height, self.width)
    }
}

/// The walker that writes nodes and initialisers.
struct Builder<'a> {
    parameters: &'a Parameters,
    groups: usize,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    counter: usize,
    /// The first weight that could not be read; the walk goes on without it.
    error: Option<anyhow::Error>,
}

impl Builder<'_> {
    fn fresh(&mut self, op: &str) -> String {
        self.counter += 1;
        format!("{}_{}", op.to_ascii_lowercase(), self.counter)
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) {
        self.nodes.push(
            inputs
                .iter()
                .fold(Message::default(), |node, input| node.text(1, input))
                .text(2, output)
                .text(3, output)
                .text(4, op)
                .messages(5, attributes),
        );
    }

    /// Adds a node with one new output and names it.
    fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = self.fresh(op);
        self.node(op, inputs, &output, attributes);
        output
    }

    fn initializer(&mut self, name: &str, kind: i64, shape: &[usize], data: &[u8]) {
        let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        self.initializers
            .push(Message::default().ints(1, &dims).int(2, kind).text(8, name).bytes(9, data));
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, FLOAT, shape, &data);
        name.to_string()
    }

    fn weight(&mut self, name: &str) -> Vec<f32> {
        self.parameters.values(name).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Vec::new()
        })
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> String {
        let values = self.weight(name);
        self.constant(name, shape, &values)
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let data: Vec<u8> = shape.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let name = self.fresh("shape");
        self.initializer(&name, INT64, &[shape.len()], &data);
        self.op("Reshape", &[x, &name], Vec::new())
    }

    /// A kernel stored `[k, k, in, out]`, as ONNX wants it: `[out, in, k, k]`.
    fn kernel(&mut self, name: &str, k: usize, channels_in: usize, channels_out: usize) -> String {
        let stored = self.weight(name);
        let mut values = Vec::with_capacity(stored.len());
        if !stored.is_empty() {
            for o in 0..channels_out {
                for i in 0..channels_in {
                    values.extend(
                        (0..k * k).map(|tap| stored[(tap * channels_in + i) * channels_out + o]),
                    );
                }
            }
        }
        self.constant(name, &[channels_out, channels_in, k, k], &values)
    }

    fn silu_of(&mut self, x: &str) -> String {
        let gate = self.op("Sigmoid", &[x], Vec::new());
        self.op("Mul", &[x, &gate], Vec::new())
    }
}

impl Layers for Builder<'_> {
    type Map = Map;
    type Vector = String;

    fn time_sinusoids(&mut self, dim: usize) -> String {
        let frequencies: Vec<f32> = (0..dim / 2).map(|i| frequency(i, dim)).collect();
        let frequencies = self.constant("time.frequencies", &[1, dim / 2], &frequencies);
        let t = self.op("Cast", &[TIMESTEP], vec![int("to", FLOAT)]);
        let t = self.reshape(&t, &[-1, 1]);
        let angle = self.op("Mul", &[&t, &frequencies], Vec::new());
        let cos = self.op("Cos", &[&angle], Vec::new());
        let sin = self.op("Sin", &[&angle], Vec::new());
        self.op("Concat", &[&cos, &sin], vec![int("axis", 1)])
    }

    fn linear(
        &mut self,
        name: &str,
        x: &String,
        channels_in: usize,
        channels_out: usize,
    ) -> String {
        let weight = self.parameter(&format!("{name}.weight"), &[channels_in, channels_out]);
        let bias = self.parameter(&format!("{name}.bias"), &[channels_out]);
        self.op("Gemm", &[x, &weight, &bias], Vec::new())
    }

    fn silu(&mut self, x: &String) -> String {
        self.silu_of(x)
    }

    fn conv(&mut self, name: &str, x: &Map, c: Conv, shift: Option<&String>) -> Map {
        let mut x = x.clone();
        if c.upsample {
            let scales = self.fresh("scales");
            self.constant(&scales, &[4], &[1.0, 1.0, 2.0, 2.0]);
            let attributes = vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ];
            let enlarged = self.op("Resize", &[&x.name, "", &scales], attributes);
            x = x.resized(enlarged, 2 * x.height, 2 * x.width);
        }
        let weight =
            self.kernel(&format!("{name}.weight"), c.kernel, c.channels_in, c.channels_out);
        let bias = self.parameter(&format!("{name}.bias"), &[c.channels_out]);
        let (k, reach) = (c.kernel as i64, c.kernel as i64 / 2);
        let attributes = vec![ints("kernel_shape", &[k, k]), ints("pads", &[reach; 4])];
        let mut out = self.op("Conv", &[&x.name, &weight, &bias], attributes);
        if let Some(shift) = shift {
            let shift = self.reshape(shift, &[-1, c.channels_out as i64, 1, 1]);
            out = self.op("Add", &[&out, &shift], Vec::new());
        }
        x.renamed(out)
    }

    fn downsample(&mut self, name: &str, x: &Map, channels_in: usize, channels_out: usize) -> Map {
        let weight = self.kernel(&format!("{name}.weight"), 2, channels_in, channels_out);
        let bias = self.parameter(&format!("{name}.bias"), &[channels_out]);
        let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
        let out = self.op("Conv", &[&x.name, &weight, &bias], attributes);
        x.resized(out, x.height / 2, x.width / 2)
    }

    fn group_norm(&mut self, name: &str, x: &Map, channels: usize, silu: bool) -> Map {
        let groups = self.groups;
        let (one, zero) = (format!("{name}.one"), format!("{name}.zero"));
        self.constant(&one, &[groups], &vec![1.0; groups]);
        self.constant(&zero, &[groups], &vec![0.0; groups]);
        let gamma = self.parameter(&format!("{name}.gamma"), &[channels, 1, 1]);
        let beta = self.parameter(&format!("{name}.beta"), &[channels, 1, 1]);
        let grouped = self.reshape(&x.name, &[0, groups as i64, -1]);
        let epsilon = vec![float("epsilon", EPSILON)];
        let normal = self.op("InstanceNormalization", &[&grouped, &one, &zero], epsilon);
        let shape = [-1, channels as i64, x.height as i64, x.width as i64];
        let normal = self.reshape(&normal, &shape);
        let scaled = self.op("Mul", &[&normal, &gamma], Vec::new());
        let mut out = self.op("Add", &[&scaled, &beta], Vec::new());
        if silu {
            out = self.silu_of(&out);
        }
        x.renamed(out)
    }

    fn attention(&mut self, qkv: &Map, channels: usize, heads: usize) -> Map {
        let size = channels / heads;
        let outputs: Vec<String> = ["query", "key", "value"].map(|part| self.fresh(part)).to_vec();
        let split = Message::default()
            .text(1, &qkv.name)
            .text(2, &outputs[0])
            .text(2, &outputs[1])
            .text(2, &outputs[2])
            .text(3, &outputs[0])
            .text(4, "Split")
            .message(5, int("axis", 1));
        self.nodes.push(split);
        let shape = [-1, heads as i64, size as i64, (qkv.height * qkv.width) as i64];
        let [query, key, value] = [0, 1, 2].map(|i: usize| self.reshape(&outputs[i], &shape));
        let transpose =
            |s: &mut Self, x: &str| s.op("Transpose", &[x], vec![ints("perm", &[0, 1, 3, 2])]);
        // The scale goes to the smaller factor, the queries.
        let scale_name = self.fresh("scale");
        let scale = self.constant(&scale_name, &[], &[1.0 / (size as f32).sqrt()]);
        let query = self.op("Mul", &[&query, &scale], Vec::new());
        let query = transpose(self, &query);
        let scores = self.op("MatMul", &[&query, &key], Vec::new());
        let weights = self.op("Softmax", &[&scores], vec![int("axis", -1)]);
        let value = transpose(self, &value);
        let mixed = self.op("MatMul", &[&weights, &value], Vec::new());
        let mixed = transpose(self, &mixed);
        let shape = [-1, channels as i64, qkv.height as i64, qkv.width as i64];
        let out = self.reshape(&mixed, &shape);
        qkv.renamed(out)
    }

    fn add(&mut self, a: &Map, b: &Map) -> Map {
        let out = self.op("Add", &[&a.name, &b.name], Vec::new());
        a.renamed(out)
    }

    fn concat(&mut self, a: &Map, b: &Map) -> Map {
        let out = self.op("Concat", &[&a.name, &b.name], vec![int("axis", 1)]);
        a.renamed(out)
    }
}
