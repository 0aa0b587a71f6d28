//! The classes of a model with an input for labels: how many there are, and which label stands for
//! none of them.

use crate::error::{Error, Result};
use crate::log::{LogLevel, Logger};
use crate::model::Classes;

use super::ModelOverrides;
use super::ports::Label;

/// The classes, of the caller, else of the names in the metadata; the label for no class is only
/// known once the model has run.
///
/// Errors: `InvalidArgument` where the caller says something of classes that the model has not, or
/// that there are none.
pub(super) fn classes(
    input: Option<&Label>,
    names: &[String],
    overrides: &ModelOverrides,
    model: &str,
    log: &Logger,
) -> Result<Option<Classes>> {
    let Some(input) = input else {
        let given = [
            ("class_count", overrides.class_count.map(|count| count.to_string())),
            ("null_label", overrides.null_label.map(|label| label.to_string())),
        ];
        if let Some((what, value)) =
            given.into_iter().find_map(|(what, value)| Some((what, value?)))
        {
            return Err(Error::invalid_argument(format!(
                "{model}: {what}: found {value}, but no input of the model takes class labels"
            )));
        }
        if !names.is_empty() {
            let message = format!(
                "{model}: metadata ddpm.classes has {} names, but no input takes class labels; ignored",
                names.len()
            );
            log.log(LogLevel::Warning, message);
        }
        return Ok(None);
    };
    let count = overrides.class_count.or(Some(names.len()).filter(|count| *count > 0));
    match count {
        Some(0) => {
            return Err(Error::invalid_argument(format!(
                "{model}: class_count: found 0, expected at least 1"
            )));
        }
        Some(count) => {
            let message = format!("{model}: input \"{}\" takes {count} classes", input.name);
            log.log(LogLevel::Info, message);
        }
        None => log.log(
            LogLevel::Info,
            format!(
                "{model}: input \"{}\" takes class labels, but no ddpm.classes says how many; they are not checked",
                input.name
            ),
        ),
    }
    Ok(Some(Classes { count, null: None }))
}

/// What the model gives for a label, `Err` with the reason where it does not run with it.
pub(super) type Answer = std::result::Result<Vec<f32>, String>;

/// Whether the label after the last of `count` classes stands for no class, as models have it that
/// were trained with label dropout (Ho and Salimans 2022; DiT, Peebles and Xie 2023); a reason where
/// not.
///
/// `ask` runs the model on the same sample with a label. A look-up beyond the table is an error on
/// the CPU; CUDA gives zeros there, so a label that is one further must not give the same.
pub(super) fn last_stands_for_none(
    count: usize,
    mut ask: impl FnMut(i64) -> Answer,
) -> std::result::Result<i64, String> {
    let null = i64::try_from(count).map_err(|error| error.to_string())?;
    let answer = ask(null)?;
    match ask(null.saturating_add(1)) {
        Ok(beyond) if is_same(&answer, &beyond) => {
            Err(format!("labels {null} and {} give the same", null.saturating_add(1)))
        }
        _ => Ok(null),
    }
}

/// Equal but for the order of sums, which providers do not promise.
fn is_same(a: &[f32], b: &[f32]) -> bool {
    let largest = a.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ports::ValueShape;

    fn label() -> Label {
        Label { name: "y".to_owned(), wide: true, shape: ValueShape::PerSample }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("class {index}")).collect()
    }

    #[test]
    fn the_count_is_the_callers_then_that_of_the_names() {
        let with = |class_count, names: &[String]| {
            let overrides = ModelOverrides { class_count, ..ModelOverrides::default() };
            classes(Some(&label()), names, &overrides, "m.onnx", &Logger::default())
        };
        let count = |found: Result<Option<Classes>>| found.unwrap().unwrap().count;
        assert_eq!(count(with(None, &names(3))), Some(3));
        assert_eq!(count(with(Some(5), &names(3))), Some(5));
        assert_eq!(count(with(None, &[])), None);
        let error = with(Some(0), &[]).unwrap_err().to_string();
        assert_eq!(error, "m.onnx: class_count: found 0, expected at least 1");
    }

    #[test]
    fn without_a_label_input_there_are_no_classes_to_speak_of() {
        let with = |overrides: &ModelOverrides| {
            classes(None, &names(3), overrides, "m.onnx", &Logger::default())
        };
        assert_eq!(with(&ModelOverrides::default()).unwrap(), None);
        let count = ModelOverrides { class_count: Some(3), ..ModelOverrides::default() };
        let null = ModelOverrides { null_label: Some(-1), ..ModelOverrides::default() };
        for (overrides, expected) in
            [(count, "class_count: found 3"), (null, "null_label: found -1")]
        {
            let error = with(&overrides).unwrap_err().to_string();
            assert!(error.starts_with(&format!("m.onnx: {expected}, but no input")), "{error}");
        }
    }

    #[test]
    fn the_label_after_the_last_is_none_only_where_the_model_has_it() {
        let table = |len: i64, beyond: Answer| {
            last_stands_for_none(3, move |label| match label {
                label if label < len => Ok(vec![label as f32, 1.0]),
                _ => beyond.clone(),
            })
        };
        let out_of_range = || Err("out of range".to_owned());
        assert_eq!(table(4, out_of_range()), Ok(3));
        assert_eq!(table(3, out_of_range()), Err("out of range".to_owned()));
        // As CUDA has it: zeros beyond the table.
        let zeros = || Ok(vec![0.0, 1.0]);
        assert_eq!(table(4, zeros()), Ok(3));
        assert_eq!(table(3, zeros()), Err("labels 3 and 4 give the same".to_owned()));
    }
}
