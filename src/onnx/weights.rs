//! Weights from a safetensors file in place of those that a model came with: one graph, many styles.
//!
//! The new values are written over the old ones, where those lie in the model's bytes or in its external
//! data. An initializer given to the runtime would come too late: its optimiser has used the old one by then.

use std::borrow::Cow;
use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, ErrorKind, Result};

use super::metadata::GOLDEN;
use super::protobuf::{Fields, Value};

/// Whose bytes an initializer takes as they are: onnx.proto's number, and safetensors' type.
const TYPES: [(i64, Dtype); 12] = [
    (1, Dtype::F32),
    (2, Dtype::U8),
    (3, Dtype::I8),
    (4, Dtype::U16),
    (5, Dtype::I16),
    (6, Dtype::I32),
    (7, Dtype::I64),
    (9, Dtype::BOOL),
    (10, Dtype::F16),
    (11, Dtype::F64),
    (12, Dtype::U32),
    (16, Dtype::BF16),
];

/// A value, or why there is none, to be put behind a tensor's name.
type Reasoned<T> = std::result::Result<T, String>;

/// How many names are shown to somebody who has mistaken one.
const NEAREST: usize = 3;

/// Names longer than this, in bytes, nobody has mistaken; to compare them would take for ever.
const LONGEST: usize = 512;

/// Where new values go.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// From this byte of the model on.
    Model(usize),
    /// From this byte of an external file on.
    External { location: String, offset: usize },
}

/// What is to be written over what the model has.
pub(super) struct Replacement<'a> {
    pub(super) place: Place,
    pub(super) bytes: Cow<'a, [u8]>,
    /// The tensor, for messages.
    pub(super) name: String,
}

/// All of a file of weights, fitted to a model.
pub(super) struct Replacements<'a> {
    pub(super) all: Vec<Replacement<'a>>,
    /// How many were rounded to a shorter type.
    pub(super) rounded: usize,
    /// How many initializers the model has.
    pub(super) of: usize,
    /// The text under `ddpm.golden` in the file's metadata.
    pub(super) golden: Option<String>,
}

/// An initializer of the graph.
struct Initializer<'a> {
    number: i64,
    dims: Vec<usize>,
    proto: &'a [u8],
}

/// Fits every tensor of `weights` to the initializer of its name. `names` are those of the weights and the
/// model, for messages.
///
/// Errors: `Io` where the weights are no safetensors file; `Model` where a tensor has no initializer, or one
/// of another shape or type.
pub(super) fn fit<'a>(
    weights: &'a [u8],
    model: &[u8],
    names: [&str; 2],
) -> Result<Replacements<'a>> {
    let [file, model_name] = names;
    let broken =
        |error| Error::new(ErrorKind::Io, format!("{file}: not a safetensors file: {error}"));
    let (_, header) = SafeTensors::read_metadata(weights).map_err(broken)?;
    let tensors = SafeTensors::deserialize(weights).map_err(broken)?;
    let initializers = initializers(model);
    if tensors.is_empty() {
        return Err(Error::new(ErrorKind::Model, format!("{file}: holds no tensor")));
    }
    let golden = header.metadata().as_ref().and_then(|texts| texts.get(GOLDEN).cloned());
    let (mut all, mut rounded) = (Vec::new(), 0);
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, tensor) in sorted {
        let refuse = |reason: String| {
            Error::new(ErrorKind::Model, format!("{file}: tensor \"{name}\": {reason}"))
        };
        let Some(found) = initializers.get(name) else {
            let nearest = nearest(name, initializers.keys().copied());
            return Err(refuse(format!("{model_name} has no initializer of that name{nearest}")));
        };
        if tensor.shape() != found.dims {
            return Err(refuse(format!(
                "found shape {:?}, expected {:?} as {model_name} has it",
                tensor.shape(),
                found.dims
            )));
        }
        let (bytes, is_rounded) = converted(&tensor, found.number).map_err(&refuse)?;
        rounded += usize::from(is_rounded);
        let place = place(found, model, bytes.len()).map_err(&refuse)?;
        all.push(Replacement { place, bytes, name: name.to_owned() });
    }
    Ok(Replacements { all, rounded, of: initializers.len(), golden })
}

/// Those of the graph itself, by name. Fields: onnx.proto, ModelProto 7 graph, GraphProto 5 initializer,
/// TensorProto 1 dims, 2 data_type, 8 name.
fn initializers(model: &[u8]) -> BTreeMap<&str, Initializer<'_>> {
    let graphs = Fields::of(model).all(7);
    let protos = graphs.flat_map(|graph| graph.fields().all(5)).filter_map(Value::bytes);
    let parsed = protos.filter_map(|proto| {
        let name = Fields::of(proto).last(8)?.text()?;
        let number = Fields::of(proto).last(2)?.int()?;
        let dims = Fields::of(proto).ints(1).map(|dim| usize::try_from(dim?).ok());
        Some((name, Initializer { number, dims: dims.collect::<Option<_>>()?, proto }))
    });
    parsed.collect()
}

/// Where the values of an initializer are, `length` bytes. Fields: TensorProto 4 float_data, 9 raw_data,
/// 13 external_data, 14 data_location; StringStringEntryProto 1 key, 2 value. Errors: the reason.
fn place(found: &Initializer<'_>, model: &[u8], length: usize) -> Reasoned<Place> {
    let fields = || Fields::of(found.proto);
    if fields().last(14).and_then(Value::int) == Some(1) {
        let entry = |wanted: &str| {
            fields().all(13).find_map(|entry| {
                let key = entry.fields().last(1)?.text()?;
                entry.fields().last(2).filter(|_| key == wanted)?.text()
            })
        };
        let number = |wanted| match entry(wanted).map(str::parse::<usize>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(format!("its {wanted} in the model is not a number")),
        };
        let location = entry("location").ok_or("the model does not say where its values are")?;
        let (offset, said) = (number("offset")?.unwrap_or(0), number("length")?);
        if said.is_some_and(|said| said != length) {
            return Err(format!("{said:?} bytes in the model, expected {length}"));
        }
        return Ok(Place::External { location: location.to_owned(), offset });
    }
    let raw = fields().all(9).chain(fields().all(4).filter(|_| found.number == 1));
    let mut held = raw.filter_map(Value::bytes);
    match (held.next(), held.next()) {
        // A slice of the model's bytes, so this is where in them it begins.
        (Some(bytes), None) if bytes.len() == length => {
            Ok(Place::Model(bytes.as_ptr().addr() - model.as_ptr().addr()))
        }
        _ => {
            Err("the model keeps its values one by one, expected raw data: save it anew".to_owned())
        }
    }
}

/// The values as the initializer takes them, and whether some precision went. Errors: the reason.
fn converted<'a>(tensor: &TensorView<'a>, number: i64) -> Reasoned<(Cow<'a, [u8]>, bool)> {
    let own = TYPES.iter().find(|(known, _)| *known == number).map(|(_, dtype)| *dtype);
    let data = tensor.data();
    match (tensor.dtype(), own) {
        (found, Some(own)) if found == own => Ok((data.into(), false)),
        (Dtype::F16, Some(Dtype::F32)) => {
            Ok((widened(data, |bytes| f16::from_le_bytes(bytes).to_f32()), false))
        }
        (Dtype::BF16, Some(Dtype::F32)) => {
            Ok((widened(data, |bytes| bf16::from_le_bytes(bytes).to_f32()), false))
        }
        (Dtype::F32, Some(Dtype::F16)) => rounded(data, f32::from_le_bytes),
        (Dtype::BF16, Some(Dtype::F16)) => {
            rounded(data, |bytes| bf16::from_le_bytes(bytes).to_f32())
        }
        (found, Some(own)) => {
            let others = match own {
                Dtype::F32 => " (or F16 or BF16)",
                Dtype::F16 => " (or F32 or BF16)",
                _ => "",
            };
            Err(format!("is {found:?}, expected {own:?}{others} as the model has it"))
        }
        (found, None) => Err(format!("is {found:?}, and the model's is type {number} of ONNX")),
    }
}

/// As float16. Errors: where a number is beyond it.
fn rounded<const N: usize>(
    data: &[u8],
    from: impl Fn([u8; N]) -> f32,
) -> Reasoned<(Cow<'static, [u8]>, bool)> {
    let mut bytes = Vec::with_capacity(data.len());
    for &value in data.as_chunks().0 {
        let value = from(value);
        let half = f16::from_f32(value);
        if value.is_finite() && !half.is_finite() {
            return Err(format!("{value} is beyond float16, which the model has"));
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok((bytes.into(), true))
}

fn widened<const N: usize>(data: &[u8], from: impl Fn([u8; N]) -> f32) -> Cow<'static, [u8]> {
    let values = data.as_chunks().0.iter().flat_map(|&value| from(value).to_le_bytes());
    values.collect::<Vec<u8>>().into()
}

/// The names most like one, in words.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return "; it has none at all".to_owned();
    }
    let names = names.filter(|other| name.len().max(other.len()) <= LONGEST);
    let mut names: Vec<(usize, &str)> = names.map(|other| (distance(name, other), other)).collect();
    names.sort();
    let names: Vec<String> =
        names.iter().take(NEAREST).map(|(_, name)| format!("\"{name}\"")).collect();
    match names[..] {
        [] => String::new(),
        _ => format!("; the nearest are {}", names.join(", ")),
    }
}

/// Letters to add, remove or change (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (index, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(row[index].min(diagonal) + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::protobuf::Message;

    #[test]
    fn names_are_as_far_apart_as_letters_to_change() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("weight", "weigth", 2), ("conv1", "conv10", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    /// A name of megabytes, which a damaged or hostile file may have, is not compared.
    #[test]
    fn the_names_most_like_one_are_said_where_they_are_names() {
        let names = ["conv1", "conv2", "fc"];
        let [near, far] = ["conv10".to_owned(), "x".repeat(LONGEST + 1)]
            .map(|name| nearest(&name, names.into_iter()));
        assert!(near.starts_with("; the nearest are \"conv1\", \"conv2\""), "{near}");
        assert_eq!(far, "");
        assert_eq!(nearest("conv1", [].into_iter()), "; it has none at all");
    }

    #[test]
    fn an_initializer_is_found_however_its_shape_and_values_are_written() {
        let values = 0.5f32.to_le_bytes().repeat(300);
        let named = |name: &str| Message::default().int(2, 1).text(8, name);
        let entry = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
        let tensors = [
            // Packed dimensions: 2 and 150.
            named("raw").bytes(1, &[2, 0x96, 1]).bytes(9, &values),
            named("floats").ints(1, &[300]).bytes(4, &values),
            named("outside")
                .ints(1, &[300])
                .messages(13, [entry("location", "w"), entry("offset", "64")])
                .int(14, 1),
            named("apart").ints(1, &[1]).float(4, 0.5),
        ];
        let graph = Message::default().messages(5, tensors);
        let model = Message::default().int(1, 8).message(7, graph).into_bytes();
        let found = initializers(&model);
        assert_eq!(found["raw"].dims, [2, 150]);
        for name in ["raw", "floats"] {
            let Ok(Place::Model(at)) = place(&found[name], &model, 1200) else {
                panic!("{name}");
            };
            assert_eq!(model[at..at + 1200], values);
            assert!(place(&found[name], &model, 1196).is_err());
        }
        let outside = Place::External { location: "w".to_owned(), offset: 64 };
        assert_eq!(place(&found["outside"], &model, 1200).unwrap(), outside);
        let error = place(&found["apart"], &model, 4).unwrap_err();
        assert!(error.contains("one by one"), "{error}");
    }
}
