//! The network as an ONNX graph: a walker over the one definition, writing nodes.
//!
//! Maps are `[n, c, h, w]` here, ONNX Runtime's layout. Each layer is written in the form that runs
//! fastest there; docs/performance.md has the measurements. Weights keep the names and values of the
//! checkpoint: what is derived from them is computed by nodes that see constants only, which ONNX
//! Runtime folds when it loads the graph. The batch keeps its name through every shape (a 0 in a
//! Reshape, never a -1), so that ONNX Runtime knows which shapes are equal.

use anyhow::Result;

use super::Precision;
use super::nodes::Nodes;
use crate::network::{Conv, Layers, Network, Padding, Sinusoids, Start, UNetConfig, unet};
use crate::parameters::{ParameterSpec, Parameters};
use crate::torch_layout;
use ddpm::onnx::messages::{Dim, FLOAT, INT64, float, int, ints, port};
use ddpm::onnx::protobuf::Message;

/// Version of the operator set; any ONNX Runtime since 1.12 has it.
pub const OPSET: i64 = 17;

/// Name of the dimension that is free.
const BATCH: &str = "batch";

/// Names of the model's inputs and output.
const SAMPLE: &str = "sample";
const TIMESTEP: &str = "timestep";
const CLASS_LABELS: &str = "class_labels";
const OUT_SAMPLE: &str = "out_sample";

/// ONNX Runtime computes convolutions for so many output channels at a time, needed or not.
const CHANNEL_BLOCK: usize = 16;

/// Writes the network as a GraphProto. Fails where a weight cannot be read from its device.
pub fn build(
    network: &Network,
    parameters: &Parameters,
    [height, width]: [usize; 2],
    precision: Precision,
) -> Result<Message> {
    let mut walker = Builder {
        parameters,
        config: &network.unet,
        graph: Nodes::new(precision),
        shifts: Vec::new(),
        before_shifts: 0,
        error: None,
    };
    let sample = Map { name: walker.graph.lowered(SAMPLE), height, width };
    let out = unet(&mut walker, network, &sample);
    walker.graph.result(&out.name, OUT_SAMPLE);
    walker.write_shifts();
    if let Some(error) = walker.error {
        return Err(error);
    }
    let image =
        |channels| [Dim::Named(BATCH), Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)];
    let mut inputs = vec![
        port(SAMPLE, FLOAT, image(network.channels_in)),
        port(TIMESTEP, INT64, [Dim::Named(BATCH)]),
    ];
    if network.labels > 0 {
        inputs.push(port(CLASS_LABELS, INT64, [Dim::Named(BATCH)]));
    }
    let output = port(OUT_SAMPLE, FLOAT, image(network.channels_out));
    Ok(walker.graph.into_graph(inputs, output))
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

    /// `[batch, channels, height, width]`
    fn shape(&self, channels: usize) -> [i64; 4] {
        [0, channels as i64, self.height as i64, self.width as i64]
    }
}

/// A shift of the time embedding, used by the graph and still to be written.
struct Shift {
    name: String,
    time: String,
    weight: String,
    bias: String,
    channels: usize,
}

/// The walker that writes nodes and initialisers.
struct Builder<'a> {
    parameters: &'a Parameters,
    config: &'a UNetConfig,
    graph: Nodes,
    shifts: Vec<Shift>,
    /// Nodes that stand before the first use of a shift; the last of them is the time embedding.
    before_shifts: usize,
    /// The first weight that could not be read; the walk goes on without it.
    error: Option<anyhow::Error>,
}

impl Builder<'_> {
    fn weight(&mut self, name: &str) -> Vec<f32> {
        self.parameters.values(name).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Vec::new()
        })
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> String {
        let values = self.weight(name);
        self.graph.weight(name, shape, &values)
    }

    /// Weight and bias of a linear layer: `[in, out]` and `[out]`.
    fn linear_weights(&mut self, name: &str, channels_in: usize, out: usize) -> [String; 2] {
        let weight = self.parameter(&format!("{name}.weight"), &[channels_in, out]);
        [weight, self.parameter(&format!("{name}.bias"), &[out])]
    }

    /// Weight and bias of a convolution. Kernels are stored `[k, k, in, out]`; ONNX wants them
    /// `[out, in, k, k]`.
    fn conv_weights(
        &mut self,
        name: &str,
        k: usize,
        channels_in: usize,
        channels_out: usize,
    ) -> [String; 2] {
        let name_of_weight = format!("{name}.weight");
        let shape = vec![k, k, channels_in, channels_out];
        let spec = ParameterSpec { name: name_of_weight, shape, start: Start::Zero };
        let stored = self.weight(&spec.name);
        // A weight that could not be read is empty, and the graph is not written.
        let values =
            if stored.is_empty() { stored } else { torch_layout::to_torch(&spec, &stored) };
        let weight = self.graph.weight(&spec.name, &torch_layout::shape(&spec), &values);
        [weight, self.parameter(&format!("{name}.bias"), &[channels_out])]
    }

    /// `x * sigmoid(x)`, which ONNX Runtime fuses.
    fn silu_of(&mut self, x: &str) -> String {
        let gate = self.graph.op("Sigmoid", &[x], Vec::new());
        self.graph.op("Mul", &[x, &gate], Vec::new())
    }

    /// Writes the shifts of all blocks as one matrix product, shaped for adding to maps.
    fn write_shifts(&mut self) {
        let shifts = std::mem::take(&mut self.shifts);
        let Some(first) = shifts.first() else { return };
        let from = self.graph.len();
        let part = |of: fn(&Shift) -> &str| shifts.iter().map(of).collect::<Vec<_>>();
        let weight = self.graph.concat(&part(|shift| &shift.weight), 1);
        let bias = self.graph.concat(&part(|shift| &shift.bias), 0);
        let all = self.graph.op("Gemm", &[&first.time, &weight, &bias], Vec::new());
        let sizes: Vec<i64> = shifts.iter().map(|shift| shift.channels as i64).collect();
        let all = self.graph.reshape(&all, &[0, sizes.iter().sum(), 1, 1]);
        let sizes = self.graph.integers(&sizes);
        let axis = vec![int("axis", 1)];
        self.graph.node("Split", &[&all, &sizes], &part(|shift| &shift.name), axis);
        self.graph.move_before(from, self.before_shifts);
    }

    /// What a convolution that reaches so far before and after the rows and columns of `x` is given,
    /// and the zeros it adds itself (top, left, bottom, right): where the edges wrap, none.
    fn padded(&mut self, x: &Map, rows: [usize; 2], columns: [usize; 2]) -> (String, [i64; 4]) {
        match self.config.padding {
            Padding::Zeros => {
                (x.name.clone(), [rows[0], columns[0], rows[1], columns[1]].map(|pad| pad as i64))
            }
            Padding::Circular => {
                let wrapped = self.wrapped(&x.name, 2, x.height, rows);
                (self.wrapped(&wrapped, 3, x.width, columns), [0; 4])
            }
        }
    }

    /// `x` with its last `before` rows (axis 2) or columns (axis 3) put before it too, its first
    /// `after` behind it.
    fn wrapped(&mut self, x: &str, axis: i64, size: usize, [before, after]: [usize; 2]) -> String {
        let mut part = |from: usize, length: usize| {
            let [start, end, axes] = [from as i64, (from + length) as i64, axis]
                .map(|value| self.graph.integers(&[value]));
            self.graph.op("Slice", &[x, &start, &end, &axes], Vec::new())
        };
        let last = (before > 0).then(|| part(size - before, before));
        let first = (after > 0).then(|| part(0, after));
        match (last.as_deref(), first.as_deref()) {
            (None, None) => x.to_string(),
            (last, first) => {
                let parts: Vec<_> = last.into_iter().chain([x]).chain(first).collect();
                self.graph.concat(&parts, axis)
            }
        }
    }

    /// Nearest-neighbour enlargement and a 3x3 convolution at once. A 3x3 window on the enlarged
    /// map covers 2x2 pixels of `x`, so each of the four phases of the output is a 2x2 convolution
    /// of `x`: 4 products a pixel instead of 9. The phases are then woven into one map.
    fn enlarging_conv(&mut self, name: &str, x: &Map, c: Conv) -> Map {
        // The taps that fall on the first and on the second pixel, of phase 0 and of phase 1.
        const COVERS: [[[f32; 3]; 2]; 2] =
            [[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]];
        let [channels_in, channels_out] = [c.channels_in as i64, c.channels_out as i64];
        let (height, width) = (x.height as i64, x.width as i64);
        let [weight, bias] = self.conv_weights(name, 3, c.channels_in, c.channels_out);
        // ONNX Runtime folds the products in float32 alone.
        let weight = self.graph.raised(&weight);
        let taps = self.graph.reshape(&weight, &[-1, 9]);
        let rows = [0, 1].map(|a| {
            let columns = [0, 1].map(|b| {
                let covered: Vec<f32> = (0..36)
                    .map(|i| (i / 12, i / 4 % 3, i / 2 % 2, i % 2))
                    .map(|(tap_y, tap_x, y, x)| COVERS[a][y][tap_y] * COVERS[b][x][tap_x])
                    .collect();
                let covered = self.graph.floats(&format!("{name}.taps_{a}{b}"), &[9, 4], &covered);
                let kernel = self.graph.op("MatMul", &[&taps, &covered], Vec::new());
                let kernel = self.graph.lowered(&kernel);
                let kernel = self.graph.reshape(&kernel, &[channels_out, channels_in, 2, 2]);
                // Phase 0 begins one pixel before the map, phase 1 ends one pixel after it.
                let (x, pads) = self.padded(x, [1 - a, a], [1 - b, b]);
                let attributes = vec![ints("kernel_shape", &[2, 2]), ints("pads", &pads)];
                let phase = self.graph.op("Conv", &[&x, &kernel, &bias], attributes);
                self.graph.reshape(&phase, &[0, channels_out, height, width, 1])
            });
            let row = self.graph.concat(&[&columns[0], &columns[1]], 4);
            self.graph.reshape(&row, &[0, channels_out * height, 1, 2 * width])
        });
        let woven = self.graph.concat(&[&rows[0], &rows[1]], 2);
        let x = x.resized(woven, 2 * x.height, 2 * x.width);
        x.renamed(self.graph.reshape(&x.name, &x.shape(c.channels_out)))
    }

    /// A convolution of few outputs as the transposed convolution that it equals: kernel mirrored,
    /// inputs and outputs exchanged, `pads` cut off. ONNX Runtime computes that for these outputs only.
    fn narrow_conv(&mut self, x: &str, weight: &str, bias: &str, k: i64, pads: [i64; 4]) -> String {
        let [last, before_first, axes, back] =
            [[-1; 2], [-k - 1; 2], [2, 3], [-1; 2]].map(|values| self.graph.integers(&values));
        let inputs = [weight, &last, &before_first, &axes, &back];
        let mirrored = self.graph.op("Slice", &inputs, Vec::new());
        let weight = self.graph.transpose(&mirrored, &[1, 0, 2, 3]);
        let attributes = vec![ints("kernel_shape", &[k, k]), ints("pads", &pads)];
        self.graph.op("ConvTranspose", &[x, &weight, bias], attributes)
    }
}

impl Layers for Builder<'_> {
    type Map = Map;
    type Vector = String;

    fn time_sinusoids(&mut self, sinusoids: Sinusoids) -> String {
        let frequencies = sinusoids.frequencies();
        let shape = [1, frequencies.len()];
        // In float32 whatever the rest is: float16 does not have the angles.
        let frequencies = self.graph.floats("time.frequencies", &shape, &frequencies);
        let t = self.graph.op("Cast", &[TIMESTEP], vec![int("to", FLOAT)]);
        let t = self.graph.reshape(&t, &[0, 1]);
        let angle = self.graph.op("Mul", &[&t, &frequencies], Vec::new());
        let cos = self.graph.op("Cos", &[&angle], Vec::new());
        let sin = self.graph.op("Sin", &[&angle], Vec::new());
        let parts = if sinusoids.cosines_first { [&cos, &sin] } else { [&sin, &cos] };
        let sinusoids = self.graph.concat(&parts.map(String::as_str), 1);
        self.graph.lowered(&sinusoids)
    }

    fn label_embedding(&mut self, name: &str, rows: usize, dim: usize) -> String {
        let table = self.parameter(&format!("{name}.weight"), &[rows, dim]);
        self.graph.op("Gather", &[&table, CLASS_LABELS], Vec::new())
    }

    fn add_vectors(&mut self, a: &String, b: &String) -> String {
        self.graph.op("Add", &[a, b], Vec::new())
    }

    fn linear(
        &mut self,
        name: &str,
        x: &String,
        channels_in: usize,
        channels_out: usize,
    ) -> String {
        let [weight, bias] = self.linear_weights(name, channels_in, channels_out);
        self.graph.op("Gemm", &[x, &weight, &bias], Vec::new())
    }

    fn shift(
        &mut self,
        name: &str,
        time: &String,
        channels_in: usize,
        channels_out: usize,
    ) -> String {
        if self.shifts.is_empty() {
            self.before_shifts = self.graph.len();
        }
        let [weight, bias] = self.linear_weights(name, channels_in, channels_out);
        let name = self.graph.fresh("shift");
        let time = time.clone();
        self.shifts.push(Shift { name: name.clone(), time, weight, bias, channels: channels_out });
        name
    }

    fn silu(&mut self, x: &String) -> String {
        self.silu_of(x)
    }

    fn conv(&mut self, name: &str, x: &Map, c: Conv, shift: Option<&String>) -> Map {
        if c.upsample {
            return self.enlarging_conv(name, x, c);
        }
        let k = c.kernel as i64;
        let [weight, bias] = self.conv_weights(name, c.kernel, c.channels_in, c.channels_out);
        let reach = [c.kernel / 2; 2];
        let (x_padded, pads) = self.padded(x, reach, reach);
        let mut out = if c.channels_out < CHANNEL_BLOCK {
            // A transposed convolution is padded by cutting off: the more, the wider its input is.
            let pads = pads.map(|pad| k - 1 - pad);
            self.narrow_conv(&x_padded, &weight, &bias, k, pads)
        } else {
            let attributes = vec![ints("kernel_shape", &[k, k]), ints("pads", &pads)];
            self.graph.op("Conv", &[&x_padded, &weight, &bias], attributes)
        };
        if let Some(shift) = shift {
            out = self.graph.op("Add", &[&out, shift], Vec::new());
        }
        x.renamed(out)
    }

    fn downsample(&mut self, name: &str, x: &Map, channels_in: usize, channels_out: usize) -> Map {
        let kind = self.config.downsample;
        let k = kind.kernel();
        let [weight, bias] = self.conv_weights(name, k, channels_in, channels_out);
        let (x_padded, pads) = self.padded(x, kind.padding(), kind.padding());
        let attributes = vec![
            ints("kernel_shape", &[k as i64; 2]),
            ints("strides", &[2, 2]),
            ints("pads", &pads),
        ];
        let out = self.graph.op("Conv", &[&x_padded, &weight, &bias], attributes);
        x.resized(out, x.height / 2, x.width / 2)
    }

    /// An instance normalisation of `[n, groups, -1]`, then scale and offset of each channel as
    /// the one node that has both: a batch normalisation of mean 0 and variance 1.
    fn group_norm(&mut self, name: &str, x: &Map, channels: usize, silu: bool) -> Map {
        let groups = self.config.groups;
        let (one, zero) =
            (self.graph.fill("one", 1.0, groups), self.graph.fill("zero", 0.0, groups));
        let grouped = self.graph.reshape(&x.name, &[0, groups as i64, -1]);
        let epsilon = vec![float("epsilon", self.config.norm_eps as f32)];
        let normal = self.graph.op("InstanceNormalization", &[&grouped, &one, &zero], epsilon);
        let normal = self.graph.reshape(&normal, &x.shape(channels));
        let gamma = self.parameter(&format!("{name}.gamma"), &[channels]);
        let beta = self.parameter(&format!("{name}.beta"), &[channels]);
        let mean = self.graph.fill("zero", 0.0, channels);
        let variance = self.graph.fill("one", 1.0, channels);
        let inputs = [&normal, &gamma, &beta, &mean, &variance].map(String::as_str);
        let exact = vec![float("epsilon", 0.0)];
        let mut out = self.graph.op("BatchNormalization", &inputs, exact);
        if silu {
            out = self.silu_of(&out);
        }
        x.renamed(out)
    }

    /// Transposes stand where ONNX Runtime fuses them into the products.
    fn attention(&mut self, qkv: &Map, channels: usize, heads: usize) -> Map {
        let size = channels / heads;
        let pixels = (qkv.height * qkv.width) as i64;
        let parts = ["query", "key", "value"].map(|part| self.graph.fresh(part));
        let [query, key, value] = parts.each_ref().map(String::as_str);
        let cut = self.graph.reshape(&qkv.name, &[0, 3 * heads as i64, size as i64, pixels]);
        self.graph.node("Split", &[&cut], &[query, key, value], vec![int("axis", 1)]);
        let scale_name = self.graph.fresh("scale");
        let scale = self.graph.constant(&scale_name, &[], &[1.0 / (size as f32).sqrt()]);
        let query = self.graph.op("Mul", &[query, &scale], Vec::new());
        let query = self.graph.transpose(&query, &[0, 1, 3, 2]);
        let scores = self.graph.op("MatMul", &[&query, key], Vec::new());
        let weights = self.graph.op("Softmax", &[&scores], vec![int("axis", -1)]);
        let weights = self.graph.transpose(&weights, &[0, 1, 3, 2]);
        let mixed = self.graph.op("MatMul", &[value, &weights], Vec::new());
        qkv.renamed(self.graph.reshape(&mixed, &qkv.shape(channels)))
    }

    fn add(&mut self, a: &Map, b: &Map) -> Map {
        a.renamed(self.graph.op("Add", &[&a.name, &b.name], Vec::new()))
    }

    fn concat(&mut self, a: &Map, b: &Map) -> Map {
        a.renamed(self.graph.concat(&[&a.name, &b.name], 1))
    }
}
