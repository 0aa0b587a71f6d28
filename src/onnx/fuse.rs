//! The step kernel as part of the graph, so that one run of the model is one reverse step.
//!
//! Protocol buffer messages merge by concatenation: what is written here, appended to a model's bytes,
//! adds nodes, inputs and outputs to its graph and leaves the rest as it is. The arithmetic is that of
//! `step::apply`, f64 in between, in the form of `step::RowMatrix`:
//!
//! ```text
//! in:   sample and the model's other inputs, and
//!       state f32 [N, 6, L]     what each sample keeps, L = C H W
//!       noise f32 [N, 1, L]
//!       terms f64 [N, 6, 1]     matrix f64 [N, 7, 9]
//! out:  the model's output, and
//!       next_state f32 [N, 6, L], next_sample as sample, shown f32 [N, 1, L]
//!       finite_output f64 [N], finite_sample f32 [N]     0 each, or NaN where a value is not finite
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::step::{MATRIX_COLUMNS, MATRIX_ROWS, STATE_PARTS, TERMS};

use super::ModelOverrides;
use super::declared::Declared;
use super::messages::{
    self, DOUBLE, Dim, FLOAT, FLOAT16, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT,
    int,
};
use super::ports::Port;
use super::protobuf::Message;
use super::roles::Roles;

/// Names of what is added begin so.
const PREFIX: &str = "ddpm.fused/";

pub(super) const STATE: &str = "ddpm.fused/state";
pub(super) const NOISE: &str = "ddpm.fused/noise";
pub(super) const TERM: &str = "ddpm.fused/terms";
pub(super) const MATRIX: &str = "ddpm.fused/matrix";
pub(super) const NEXT_STATE: &str = "ddpm.fused/next_state";
pub(super) const NEXT_SAMPLE: &str = "ddpm.fused/next_sample";
pub(super) const SHOWN: &str = "ddpm.fused/shown";
pub(super) const FINITE_OUTPUT: &str = "ddpm.fused/finite_output";
pub(super) const FINITE_SAMPLE: &str = "ddpm.fused/finite_sample";

/// The first version of the standard operators in which all that are used have the form used here.
const OLDEST_OPSET: i64 = 13;

/// Whether an input or output is one that was added.
pub(super) fn is_added(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What to append to the bytes of a model.
///
/// Errors: `Unsupported`, why that cannot be done. Loads nothing.
pub(super) fn addition(bytes: &[u8], overrides: &ModelOverrides, model: &str) -> Result<Vec<u8>> {
    let refuse = |reason: String| Error::new(ErrorKind::Unsupported, format!("{model}: {reason}"));
    let declared = Declared::of(bytes);
    if declared.opset == 0 {
        let text = format!("{model}: not an ONNX model, or one that names no operator set");
        return Err(Error::new(ErrorKind::Model, text));
    }
    if declared.opset < OLDEST_OPSET {
        return Err(refuse(format!(
            "a fused step needs opset {OLDEST_OPSET} or newer, found {}",
            declared.opset
        )));
    }
    if let Some(Port { name, .. }) =
        declared.inputs.iter().chain(&declared.outputs).find(|port| is_added(&port.name))
    {
        return Err(refuse(format!("it has a fused step already, \"{name}\"")));
    }
    // What the session declares may be more, as it infers shapes; the names are the same.
    let roles = Roles::find(&declared.inputs, &declared.outputs, overrides, model)
        .map_err(|error| refuse(format!("a fused step cannot be added: {error}")))?;
    let (Some(channels), Some(outputs)) = (roles.sample.dims[1], roles.output.dims[1]) else {
        return Err(refuse("a fused step needs the number of channels, which is open".to_owned()));
    };
    let gives_variance = match outputs.checked_div(channels) {
        Some(1) if outputs == channels => false,
        Some(2) if outputs == 2 * channels => true,
        _ => return Err(refuse(format!("{outputs} channels out of {channels} are no prediction"))),
    };
    Ok(graph(&roles, gives_variance))
}

/// A graph under construction.
#[derive(Default)]
struct Addition {
    graph: Message,
    count: usize,
}

fn graph(roles: &Roles, gives_variance: bool) -> Vec<u8> {
    let mut add = Addition::default();
    for (name, number, parts) in [
        (STATE, FLOAT, STATE_PARTS),
        (NOISE, FLOAT, 1),
        (TERM, DOUBLE, TERMS),
        (MATRIX, DOUBLE, MATRIX_ROWS),
    ] {
        let last = match name {
            TERM => Some(1),
            MATRIX => Some(MATRIX_COLUMNS),
            _ => None,
        };
        add.port(GRAPH_INPUT, name, number, &[None, Some(parts), last]);
    }
    let state = add.cast(STATE, DOUBLE);
    let (x, _) = add.first(&state, STATE_PARTS);
    let [p_x, p_m, least, most, offset, slope] = add.split_terms();

    let output = add.cast(&roles.output.name, DOUBLE);
    let parts = if gives_variance { 2 } else { 1 };
    let rows = add.ints(&[0, parts, -1]);
    let output = add.node("Reshape", &[&output, &rows], Vec::new());
    let (m, variance) = match gives_variance {
        true => {
            let (m, v) = add.first(&output, 2);
            (m, Some(v))
        }
        false => (output.clone(), None),
    };
    let from_x = add.node("Mul", &[&p_x, &x], Vec::new());
    let from_m = add.node("Mul", &[&p_m, &m], Vec::new());
    let x0 = add.node("Add", &[&from_x, &from_m], Vec::new());
    let x0 = add.node("Max", &[&x0, &least], Vec::new());
    let x0 = add.node("Min", &[&x0, &most], Vec::new());

    let mut noise = add.cast(NOISE, DOUBLE);
    if let Some(v) = variance {
        let half = add.double(0.5);
        let log = add.node("Mul", &[&slope, &v], Vec::new());
        let log = add.node("Add", &[&offset, &log], Vec::new());
        let log = add.node("Mul", &[&half, &log], Vec::new());
        let deviation = add.node("Exp", &[&log], Vec::new());
        noise = add.node("Mul", &[&deviation, &noise], Vec::new());
    }
    let along = |axis: i64| vec![int("axis", axis)];
    let slots = add.node("Concat", &[&state, &m, &x0, &noise], along(1));
    let made = add.node("MatMul", &[MATRIX, &slots], Vec::new());
    let made = add.cast(&made, FLOAT);
    add.split(&made, &[STATE_PARTS as i64, 1], &[NEXT_STATE, SHOWN]);
    let (x, _) = add.first(NEXT_STATE, STATE_PARTS);

    let shape = add.node("Shape", &[&roles.sample.name], Vec::new());
    let number = if roles.sample.half { FLOAT16 } else { FLOAT };
    let sample = add.node("Reshape", &[&x, &shape], Vec::new());
    add.named("Cast", &[&sample], NEXT_SAMPLE, vec![int("to", number)]);

    // Nothing times zero is zero but what is not finite.
    let inner = add.ints(&[1, 2]);
    for (values, zero, finite) in [
        (&output, add.double(0.0), FINITE_OUTPUT),
        (&x, add.scalar(FLOAT, &0f32.to_le_bytes()), FINITE_SAMPLE),
    ] {
        let nothing = add.node("Mul", &[values, &zero], Vec::new());
        add.named("ReduceSum", &[&nothing, &inner], finite, vec![int("keepdims", 0)]);
    }

    add.port(GRAPH_OUTPUT, NEXT_STATE, FLOAT, &[None, Some(STATE_PARTS), None]);
    let dims = [None, roles.sample.dims[1], roles.sample.dims[2], roles.sample.dims[3]];
    add.port(GRAPH_OUTPUT, NEXT_SAMPLE, number, &dims);
    add.port(GRAPH_OUTPUT, SHOWN, FLOAT, &[None, Some(1), None]);
    add.port(GRAPH_OUTPUT, FINITE_OUTPUT, DOUBLE, &[None]);
    add.port(GRAPH_OUTPUT, FINITE_SAMPLE, FLOAT, &[None]);
    // ModelProto.graph
    Message::default().message(7, add.graph).into_bytes()
}

impl Addition {
    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("{PREFIX}{}", self.count)
    }

    fn push(&mut self, field: u32, message: Message) {
        self.graph = std::mem::take(&mut self.graph).message(field, message);
    }

    fn many(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        let name = self.fresh();
        self.push(GRAPH_NODE, messages::node(&name, op, inputs, outputs, attributes));
    }

    fn named(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) {
        self.many(op, inputs, &[output], attributes);
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<Message>) -> String {
        let output = self.fresh();
        self.named(op, inputs, &output, attributes);
        output
    }

    fn cast(&mut self, input: &str, to: i64) -> String {
        self.node("Cast", &[input], vec![int("to", to)])
    }

    fn split(&mut self, input: &str, sizes: &[i64], outputs: &[&str]) {
        let sizes = self.ints(sizes);
        self.many("Split", &[input, &sizes], outputs, vec![int("axis", 1)]);
    }

    /// The first of so many parts, and the others.
    fn first(&mut self, input: &str, parts: usize) -> (String, String) {
        let (first, others) = (self.fresh(), self.fresh());
        self.split(input, &[1, parts as i64 - 1], &[&first, &others]);
        (first, others)
    }

    fn split_terms(&mut self) -> [String; TERMS] {
        let outputs: [String; TERMS] = std::array::from_fn(|_| self.fresh());
        self.split(TERM, &[1; TERMS], &outputs.each_ref().map(String::as_str));
        outputs
    }

    /// A constant of one value.
    fn scalar(&mut self, number: i64, bytes: &[u8]) -> String {
        let name = self.fresh();
        self.push(GRAPH_INITIALIZER, messages::tensor(&name, number, &[], bytes));
        name
    }

    fn double(&mut self, value: f64) -> String {
        self.scalar(DOUBLE, &value.to_le_bytes())
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh();
        self.push(GRAPH_INITIALIZER, messages::integers(&name, values));
        name
    }

    /// Declares an input or an output; what is not known of its size is open.
    fn port(&mut self, field: u32, name: &str, number: i64, dims: &[Option<usize>]) {
        let dims = dims.iter().map(|size| size.map_or(Dim::Open, Dim::Fixed));
        self.push(field, messages::port(name, number, dims));
    }
}
