//! Which inputs and outputs get which roles, and what is refused.

use ort::value::TensorElementType;

use super::ModelOverrides;
use super::metadata::Metadata;
use super::ports::{Port, ValueShape};
use super::roles::Roles;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Color;

const MODEL: &str = "m.onnx";

fn port(name: &str, number: TensorElementType, dims: &[i64]) -> Port {
    let dims = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    Port { name: name.to_owned(), number: Some(number), dims }
}

fn f32(name: &str, dims: &[i64]) -> Port {
    port(name, TensorElementType::Float32, dims)
}

fn i64(name: &str, dims: &[i64]) -> Port {
    port(name, TensorElementType::Int64, dims)
}

fn find(inputs: &[Port], outputs: &[Port]) -> Result<Roles> {
    Roles::find(inputs, outputs, &ModelOverrides::default(), MODEL)
}

/// C, H and W.
fn size(roles: &Roles, overrides: &ModelOverrides, metadata: &Metadata) -> Result<[usize; 3]> {
    roles.shape(overrides, metadata, MODEL).map(|shape| [shape.channels, shape.height, shape.width])
}

const OPEN: &[i64] = &[-1, 3, -1, -1];

fn open_roles() -> Roles {
    find(&[f32("sample", OPEN), i64("timestep", &[-1])], &[f32("out", OPEN)]).unwrap()
}

#[test]
fn type_and_rank_are_enough_whatever_the_names_and_order() {
    let roles = find(&[i64("b", &[]), f32("a", OPEN)], &[f32("c", OPEN)]).unwrap();
    assert_eq!(roles.sample.name, "a");
    assert_eq!(roles.timestep.name, "b");
    assert_eq!(roles.timestep.shape, ValueShape::Scalar);
    assert_eq!(roles.output.name, "c");
    assert_eq!(roles.sample.dims, [None, Some(3), None, None]);
}

#[test]
fn names_settle_what_type_and_rank_leave_open() {
    let inputs = [f32("sample", OPEN), f32("t", &[1])];
    let roles = find(&inputs, &[f32("aux", OPEN), f32("eps", OPEN)]).unwrap();
    assert_eq!(roles.output.name, "eps");
    assert_eq!(roles.timestep.shape, ValueShape::One);
}

#[test]
fn an_override_wins_and_must_fit() {
    let inputs = [f32("sample", OPEN), i64("timestep", &[-1])];
    let outputs = [f32("first", OPEN), f32("second", OPEN), f32("flat", &[-1])];
    let with = |output: &str| {
        let output = Some(output.to_owned());
        let overrides = ModelOverrides { output, ..ModelOverrides::default() };
        Roles::find(&inputs, &outputs, &overrides, MODEL)
    };
    assert_eq!(with("second").unwrap().output.name, "second");
    let error = with("flat").unwrap_err().to_string();
    assert!(error.contains("\"flat\" float32 [?] does not fit"), "{error}");
    let error = with("none").unwrap_err().to_string();
    assert!(error.contains("no output is named \"none\""), "{error}");
}

#[test]
fn what_is_ambiguous_or_missing_is_refused_with_a_list() {
    let sample = || f32("sample", OPEN);
    let time = || i64("timestep", &[-1]);
    let out = || f32("out", OPEN);
    let cases: [(Vec<Port>, Vec<Port>, &str); 5] = [
        (vec![time()], vec![out()], "no input can be the sample"),
        (vec![sample()], vec![out()], "no input can be the timestep"),
        (vec![sample(), time()], vec![f32("flat", &[-1])], "no output can be the output"),
        (
            vec![sample(), time()],
            vec![f32("aux", OPEN), f32("main", OPEN)],
            "more than one output may be the output",
        ),
        (
            vec![sample(), time(), f32("context", &[-1, 77, 768])],
            vec![out()],
            "input \"context\" float32 [?, 77, 768] is required",
        ),
    ];
    for (inputs, outputs, expected) in cases {
        let error = find(&inputs, &outputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        let text = error.to_string();
        assert!(text.starts_with(&format!("m.onnx: {expected}")), "{text}");
        assert!(text.contains("puts: \""), "{text}");
    }
}

#[test]
fn a_label_input_is_known_by_type_and_rank_and_told_from_the_timestep_by_name() {
    let out = [f32("out", OPEN)];
    let roles = |inputs: &[Port]| {
        let roles = find(&[&[f32("sample", OPEN)], inputs].concat(), &out).unwrap();
        (roles.timestep.name, roles.label.map(|label| label.name))
    };
    let found = |timestep: &str, label: &str| (timestep.to_owned(), Some(label.to_owned()));
    let n: &[i64] = &[-1];
    let i32 = |name| port(name, TensorElementType::Int32, n);
    // Either name settles it.
    assert_eq!(roles(&[i64("y", n), i64("t", n)]), found("t", "y"));
    assert_eq!(roles(&[i64("a", n), i64("Timestep", n)]), found("Timestep", "a"));
    assert_eq!(roles(&[i64("class_labels", n), i64("a", n)]), found("a", "class_labels"));
    // So do fractions and the rank, which a label has not.
    assert_eq!(roles(&[i64("a", n), f32("b", n)]), found("b", "a"));
    assert_eq!(roles(&[i32("labels"), i64("b", &[])]), found("b", "labels"));
    assert_eq!(roles(&[i64("t", n)]), ("t".to_owned(), None));
}

#[test]
fn a_label_is_int64_or_int32_of_rank_1() {
    let label = |port: Port| {
        let inputs = [f32("sample", OPEN), i64("timestep", &[-1]), port];
        find(&inputs, &[f32("out", OPEN)]).map(|roles| roles.label.unwrap())
    };
    let found = label(port("y", TensorElementType::Int32, &[1])).unwrap();
    assert_eq!((found.wide, found.shape), (false, ValueShape::One));
    let found = label(i64("y", &[-1])).unwrap();
    assert_eq!((found.wide, found.shape), (true, ValueShape::PerSample));
    for port in [i64("y", &[]), i64("y", &[-1, 1]), f32("y", &[-1])] {
        let error = label(port).unwrap_err().to_string();
        assert!(error.contains("input \"y\"") && error.contains("is required"), "{error}");
    }
}

#[test]
fn two_integers_without_known_names_are_refused_until_one_is_named() {
    let inputs = [f32("sample", OPEN), i64("a", &[-1]), i64("b", &[-1])];
    let outputs = [f32("out", OPEN)];
    let error = find(&inputs, &outputs).unwrap_err().to_string();
    assert!(error.contains("more than one input may be the timestep"), "{error}");
    assert!(error.contains("\"a\" int64 [?], \"b\" int64 [?]"), "{error}");
    let with = |timestep: Option<&str>, label: Option<&str>| {
        let overrides = ModelOverrides {
            timestep_input: timestep.map(str::to_owned),
            label_input: label.map(str::to_owned),
            ..ModelOverrides::default()
        };
        let roles = Roles::find(&inputs, &outputs, &overrides, MODEL)?;
        Ok::<_, Error>((roles.timestep.name, roles.label.unwrap().name))
    };
    let found = ("b".to_owned(), "a".to_owned());
    assert_eq!(with(Some("b"), None).unwrap(), found);
    assert_eq!(with(None, Some("a")).unwrap(), found);
    assert_eq!(with(Some("b"), Some("a")).unwrap(), found);
    let error = with(None, Some("c")).unwrap_err().to_string();
    assert!(error.contains("no input is named \"c\""), "{error}");
    let error = with(Some("a"), Some("a")).unwrap_err().to_string();
    assert!(error.contains("\"a\" int64 [?] does not fit the role: class labels"), "{error}");
}

#[test]
fn a_lone_label_is_no_timestep() {
    let inputs = [f32("sample", OPEN), i64("class_labels", &[-1])];
    let error = find(&inputs, &[f32("out", OPEN)]).unwrap_err().to_string();
    assert!(error.starts_with("m.onnx: no input can be the timestep"), "{error}");
}

#[test]
fn the_size_is_the_callers_then_the_graphs_then_the_metadatas() {
    let roles = open_roles();
    let metadata = Metadata { height: Some(16), width: Some(24), ..Metadata::default() };
    let none = ModelOverrides::default();
    assert_eq!(size(&roles, &none, &metadata).unwrap(), [3, 16, 24]);
    let given = ModelOverrides { height: Some(8), ..ModelOverrides::default() };
    assert_eq!(size(&roles, &given, &metadata).unwrap(), [3, 8, 24]);
    let fixed =
        find(&[f32("sample", &[-1, 3, 32, 48]), i64("timestep", &[-1])], &[f32("out", OPEN)])
            .unwrap();
    assert_eq!(size(&fixed, &none, &metadata).unwrap(), [3, 32, 48]);
    let error = size(&fixed, &given, &metadata).unwrap_err().to_string();
    assert!(error.contains("height: found 8, expected 32"), "{error}");
    let error = size(&roles, &none, &Metadata::default()).unwrap_err().to_string();
    assert!(error.contains("the height is open") && error.contains("ddpm.height"), "{error}");
}

#[test]
fn sizes_out_of_range_are_refused() {
    let roles = open_roles();
    for (height, width) in [(0x7fff_ffff, 0x7fff_ffff), (0, 8), (16384, 16384)] {
        let overrides = ModelOverrides {
            height: Some(height),
            width: Some(width),
            ..ModelOverrides::default()
        };
        let error = size(&roles, &overrides, &Metadata::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn channels_come_from_the_graph_or_the_color() {
    let dims: &[i64] = &[-1, -1, 8, 8];
    let roles = find(&[f32("sample", dims), i64("timestep", &[-1])], &[f32("out", dims)]).unwrap();
    let none = ModelOverrides::default();
    let metadata = Metadata { color: Some(Color::Rgba), ..Metadata::default() };
    assert_eq!(size(&roles, &none, &metadata).unwrap(), [4, 8, 8]);
    let error = size(&roles, &none, &Metadata::default()).unwrap_err().to_string();
    assert!(error.contains("leaves its channels open"), "{error}");
}

#[test]
fn an_output_has_the_samples_size_and_its_channels_once_or_twice() {
    let with = |channels: i64, output: &[i64]| {
        let inputs = [f32("sample", &[-1, channels, 8, 8]), i64("timestep", &[-1])];
        let roles = find(&inputs, &[f32("out", output)]).unwrap();
        roles
            .shape(&ModelOverrides::default(), &Metadata::default(), MODEL)
            .map(|shape| shape.gives_variance)
    };
    assert_eq!(with(3, &[-1, 3, 8, 8]).unwrap(), Some(false));
    assert_eq!(with(3, &[-1, 6, 8, 8]).unwrap(), Some(true));
    assert_eq!(with(1, &[-1, 2, 8, 8]).unwrap(), Some(true));
    assert_eq!(with(3, &[-1, -1, -1, 8]).unwrap(), None);
    for output in [[-1, 1, 8, 8], [-1, 9, 8, 8], [-1, 3, 4, 8], [-1, 6, 8, 4], [-1, -1, 8, 4]] {
        let error = with(3, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        let text = error.to_string();
        assert!(text.contains("expected [N, 3, 8, 8] as the sample, or 6 channels"), "{text}");
    }
}

#[test]
fn a_fixed_batch_is_known_and_must_agree() {
    let with = |input: i64, output: i64| {
        let inputs = [f32("sample", &[input, 3, 8, 8]), i64("timestep", &[-1])];
        find(&inputs, &[f32("out", &[output, 3, 8, 8])]).unwrap().fixed_batch(&inputs, MODEL)
    };
    assert_eq!(with(-1, -1).unwrap(), None);
    assert_eq!(with(2, -1).unwrap(), Some(2));
    assert!(with(2, 3).is_err());
}
