//! What an ONNX file says of itself, read from its bytes without a runtime: for tools that explain what
//! a load refuses.
//!
//! Field numbers are those of onnx.proto (ONNX IR). Bytes from anywhere may be given: nothing is trusted,
//! and nothing larger than they are is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use crate::error::Error;
use crate::log::Logger;

use super::declared::Declared;
use super::external_data;
use super::metadata::{Metadata, PREFIX};
use super::ports::Port;
use super::protobuf::{Fields, Message, Value};

/// Graphs lie in nodes of graphs. What is deeper than this is left out.
const MAX_DEPTH: u32 = 64;

/// See the module's text. What has an order in the file has that: inputs, outputs and metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSummary {
    /// The version of the file format.
    pub ir_version: Option<i64>,
    /// What made it, with its version, such as `pytorch 2.9.1`; empty where it does not say.
    pub producer: String,
    /// The operator sets it is written in, each with its version; `""` is ONNX's own.
    pub opsets: BTreeMap<String, i64>,
    /// Every kind of operator with how many there are, those of graphs inside nodes and of functions too;
    /// of another operator set with its name before a dot.
    pub operators: BTreeMap<String, usize>,
    /// The weights.
    pub initializers: Vec<Initializer>,
    /// The inputs that must be fed, as they are declared, such as `"sample" float32 [?, 3, 16, 16]`; an
    /// open dimension is a question mark.
    pub inputs: Vec<String>,
    /// The outputs, likewise.
    pub outputs: Vec<String>,
    /// All pairs of `metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// The files that weights are read from, as the model spells them.
    pub external_data: BTreeSet<String>,
}

/// One tensor of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initializer {
    /// Its name in the graph.
    pub name: String,
    /// The number type, such as `float32`, or its number in onnx.proto where this version has no name.
    pub number: String,
    /// The dimensions.
    pub dims: Vec<i64>,
}

impl Initializer {
    /// How many values there are; `None` where the dimensions are no size.
    pub fn len(&self) -> Option<u64> {
        self.dims.iter().try_fold(1u64, |len, &dim| len.checked_mul(u64::try_from(dim).ok()?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    fn of(tensor: Value<'_>) -> Self {
        let name = tensor.fields().last(8).map(owned).unwrap_or_default();
        let number = tensor.fields().all(2).filter_map(Value::int).last().unwrap_or(0);
        let dims = tensor.fields().ints(1).flatten().collect();
        Self { name, number: number_name(number), dims }
    }
}

impl GraphSummary {
    /// Reads the bytes of a file; `None` where they hold no graph, so that they are no ONNX file, or only
    /// the beginning of one.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let (mut has_graph, mut producer) = (false, [String::new(), String::new()]);
        for (field, value) in Fields::of(bytes) {
            match (field, value) {
                (1, Value::Int(version)) => found.ir_version = Some(version),
                (2, _) => producer[0] = owned(value),
                (3, _) => producer[1] = owned(value),
                (7, Value::Bytes(_)) => {
                    has_graph = true;
                    let weights = value.fields().all(5).map(Initializer::of);
                    found.initializers.extend(weights);
                    found.graph(value, 0);
                }
                (8, _) => {
                    let domain = value.fields().last(1).map(owned).unwrap_or_default();
                    let version = value.fields().last(2).and_then(Value::int);
                    found.opsets.insert(domain, version.unwrap_or(0));
                }
                (14, _) => {
                    let [key, text] = [1, 2].map(|f| value.fields().last(f).map(owned));
                    found.metadata.push((key.unwrap_or_default(), text.unwrap_or_default()));
                }
                (25, _) => value.fields().all(7).for_each(|node| found.node(node, 0)),
                _ => {}
            }
        }
        found.initializers.sort_by(|a, b| a.name.cmp(&b.name));
        let declared = Declared::of(bytes);
        found.inputs = declared.inputs.iter().map(Port::to_string).collect();
        found.outputs = declared.outputs.iter().map(Port::to_string).collect();
        found.external_data = external_data::locations(Cursor::new(bytes), bytes.len() as u64);
        found.producer = producer.join(" ").trim().to_owned();
        has_graph.then_some(found)
    }

    fn graph(&mut self, graph: Value<'_>, depth: u32) {
        if depth > MAX_DEPTH {
            return;
        }
        graph.fields().all(1).for_each(|node| self.node(node, depth));
    }

    fn node(&mut self, node: Value<'_>, depth: u32) {
        let (mut kind, mut domain) = (String::new(), String::new());
        for (field, value) in node.fields() {
            match field {
                4 => kind = owned(value),
                7 => domain = owned(value),
                5 => {
                    let graphs = value.fields().filter(|(field, _)| matches!(field, 6 | 11));
                    graphs.for_each(|(_, graph)| self.graph(graph, depth + 1));
                }
                _ => {}
            }
        }
        let kind = if domain.is_empty() { kind } else { format!("{domain}.{kind}") };
        *self.operators.entry(kind).or_default() += 1;
    }

    /// What is wrong with each of the `ddpm.*` keys by itself: all of it, where a load names the first.
    /// `model` names the file in messages. Each comes with its key.
    pub fn metadata_faults(&self, model: &str) -> Vec<(String, Error)> {
        let faults = self.metadata.iter().filter_map(|pair| {
            let parsed = Metadata::parse(std::slice::from_ref(pair), model, &Logger::default());
            parsed.err().map(|error| (pair.0.clone(), error))
        });
        faults.collect()
    }
}

/// The bytes of the same model without the `ddpm.*` keys that `keeps` is false for. Allocates a copy.
pub fn without_metadata(bytes: &[u8], keeps: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for (field, value) in Fields::of(bytes) {
        let key = || value.fields().last(1).and_then(Value::text).unwrap_or_default();
        if field == 14 && key().starts_with(PREFIX) && !keeps(key()) {
            continue;
        }
        let Ok(field) = u32::try_from(field) else {
            continue;
        };
        // Of other wire types a model has no fields.
        let message = match value {
            Value::Int(value) => Message::default().int(field, value),
            Value::Bytes(value) => Message::default().bytes(field, value),
            Value::Bits32(_) | Value::Bits64(_) => continue,
        };
        kept.extend(message.into_bytes());
    }
    kept
}

fn owned(value: Value<'_>) -> String {
    String::from_utf8_lossy(value.bytes().unwrap_or_default()).into_owned()
}

/// The names of TensorProto.DataType, as numpy has them.
fn number_name(number: i64) -> String {
    const NAMES: [&str; 17] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
    name.map_or_else(|| format!("type {number}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Message {
        Message::default().text(1, key).text(2, value)
    }

    fn node(kind: &str) -> Message {
        Message::default().text(4, kind)
    }

    fn port(name: &str, dims: &[i64]) -> Message {
        let dim = |&dim: &i64| match dim {
            -1 => Message::default().text(2, "N"),
            _ => Message::default().int(1, dim),
        };
        let shape = Message::default().messages(1, dims.iter().map(dim));
        let tensor = Message::default().int(1, 1).message(2, shape);
        Message::default().text(1, name).message(2, Message::default().message(1, tensor))
    }

    fn model() -> Vec<u8> {
        let external = Message::default()
            .bytes(1, &[2, 0x80, 0x01])
            .int(2, 10)
            .text(8, "w")
            .messages(13, [entry("location", "w.bin"), entry("offset", "0")])
            .int(14, 1);
        let inner = Message::default().message(1, node("Relu"));
        let branching = node("If").message(5, Message::default().message(6, inner));
        let custom = node("Fused").text(7, "com.example");
        // It keeps the name of a file it was read from, and holds its values itself.
        let weight = Message::default()
            .ints(1, &[3, 4])
            .int(2, 1)
            .text(8, "b")
            .message(13, entry("location", "was.bin"));
        let graph = Message::default()
            .messages(1, [node("Mul"), node("Mul"), branching, custom])
            .messages(5, [external, weight])
            .messages(11, [port("sample", &[-1, 3]), port("b", &[3, 4])])
            .messages(12, [port("out", &[])]);
        Message::default()
            .int(1, 8)
            .text(2, "maker")
            .text(3, "1.2")
            .message(7, graph)
            .message(8, Message::default().text(1, "").int(2, 17))
            .messages(
                14,
                [
                    entry("ddpm.color", "cmyk"),
                    entry("author", "someone"),
                    entry("ddpm.width", "0"),
                    entry("ddpm.height", "8"),
                ],
            )
            .into_bytes()
    }

    #[test]
    fn a_model_says_what_it_is_made_of() {
        let found = GraphSummary::of(&model()).unwrap();
        assert_eq!((found.ir_version, found.producer.as_str()), (Some(8), "maker 1.2"));
        assert_eq!(found.opsets.get(""), Some(&17));
        let operators: Vec<_> = found.operators.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(operators, [("If", 1), ("Mul", 2), ("Relu", 1), ("com.example.Fused", 1)]);
        let weights: Vec<_> = found
            .initializers
            .iter()
            .map(|w| (w.name.as_str(), w.number.as_str(), w.len()))
            .collect();
        assert_eq!(weights, [("b", "float32", Some(12)), ("w", "float16", Some(256))]);
        // What has a value of its own need not be fed.
        assert_eq!(found.inputs, ["\"sample\" float32 [?, 3]"]);
        assert_eq!(found.outputs, ["\"out\" float32 []"]);
        assert_eq!(found.external_data, BTreeSet::from(["w.bin".to_owned()]));
    }

    #[test]
    fn every_faulty_key_is_named_and_can_be_left_out() {
        let bytes = model();
        let faults = GraphSummary::of(&bytes).unwrap().metadata_faults("m.onnx");
        let keys: Vec<&str> = faults.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["ddpm.color", "ddpm.width"]);
        assert!(faults[0].1.to_string().starts_with("m.onnx: metadata ddpm.color is \"cmyk\""));
        let kept = without_metadata(&bytes, |key| !keys.contains(&key));
        let found = GraphSummary::of(&kept).unwrap();
        let pairs: Vec<&str> = found.metadata.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(pairs, ["author", "ddpm.height"]);
        assert_eq!(without_metadata(&bytes, |_| true), bytes);
    }

    /// Cut anywhere and with any byte changed; and graphs inside graphs without an end.
    #[test]
    fn hostile_bytes_are_read_to_no_harm() {
        let bytes = model();
        assert_eq!(GraphSummary::of(b"not a model"), None);
        assert_eq!(GraphSummary::of(&[]), None);
        for at in 0..bytes.len() {
            GraphSummary::of(&bytes[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                GraphSummary::of(&changed);
                without_metadata(&changed, |_| false);
            }
        }
        let mut deep = Message::default();
        for _ in 0..500 {
            let attribute = Message::default().message(6, deep);
            deep = Message::default().message(1, node("If").message(5, attribute));
        }
        let deep = Message::default().message(7, deep).into_bytes();
        let found = GraphSummary::of(&deep).unwrap();
        assert_eq!(found.operators.get("If"), Some(&(MAX_DEPTH as usize + 1)));
        let huge =
            Initializer { name: String::new(), number: number_name(99), dims: vec![i64::MAX; 3] };
        assert_eq!((huge.len(), huge.number.as_str()), (None, "type 99"));
    }
}
