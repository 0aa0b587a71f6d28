//! What a model file says about itself: the `ddpm.*` keys of ONNX `metadata_props`.
//!
//! A value that cannot be understood is refused, never guessed at. This module must not know what
//! else may describe a model.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};
use crate::model::Color;
use crate::noise_schedule::{BetaSchedule, MAX_TRAIN_TIMESTEPS};
use crate::prediction::PredictionType;
use crate::sampler::{Thresholding, VarianceType};

pub(super) const PREFIX: &str = "ddpm.";

/// The key of the golden checksum.
pub(super) const GOLDEN: &str = "ddpm.golden";

/// The layout of the keys that this library reads.
const VERSION: &str = "1";

/// One forward pass the exporter made, to be repeated after a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Golden {
    /// The sample is the initial noise of this seed, row 0, in the order [C, H, W], batch 1.
    pub(super) seed: u64,
    pub(super) timestep: f64,
    /// For a model with classes.
    pub(super) label: i64,
    /// The mean of the squares of the output.
    pub(super) mean_square: f64,
}

/// The keys that a file has, parsed. `None` for those it has not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metadata {
    pub(super) prediction_type: Option<PredictionType>,
    pub(super) beta_schedule: Option<String>,
    pub(super) beta_start: Option<f64>,
    pub(super) beta_end: Option<f64>,
    pub(super) num_train_timesteps: Option<usize>,
    pub(super) rescale_betas_zero_snr: Option<bool>,
    pub(super) variance_type: Option<VarianceType>,
    pub(super) thresholding: Option<Thresholding>,
    pub(super) clipped_epsilon: Option<bool>,
    pub(super) width: Option<usize>,
    pub(super) height: Option<usize>,
    pub(super) color: Option<Color>,
    pub(super) classes: Vec<String>,
    pub(super) golden: Option<Golden>,
}

impl Metadata {
    /// Parses the pairs of a model file; `model` names it in messages.
    ///
    /// Errors: `Model` for a value that is not one of the accepted; `Unsupported` for another version
    /// of the keys.
    pub(super) fn parse(pairs: &[(String, String)], model: &str, log: &Logger) -> Result<Self> {
        let mut found = Self::default();
        for (key, value) in pairs {
            let Some(short) = key.strip_prefix(PREFIX) else {
                continue;
            };
            let entry = Entry { model, key, value };
            match short {
                "version" if value == VERSION => {}
                "version" => return Err(entry.unsupported("1")),
                "prediction_type" => {
                    found.prediction_type =
                        Some(entry.parse("epsilon, sample, v_prediction or mean")?);
                }
                "beta_schedule" => {
                    BetaSchedule::from_name(value, 0.1, 0.2).map_err(|_| {
                        entry.refuse("linear, scaled_linear, squaredcos_cap_v2, sigmoid or laplace")
                    })?;
                    found.beta_schedule = Some(value.clone());
                }
                "beta_start" => found.beta_start = Some(entry.beta()?),
                "beta_end" => found.beta_end = Some(entry.beta()?),
                "num_train_timesteps" => {
                    found.num_train_timesteps = Some(entry.integer(MAX_TRAIN_TIMESTEPS)?);
                }
                "rescale_betas_zero_snr" => {
                    found.rescale_betas_zero_snr = Some(entry.parse("true or false")?);
                }
                "variance_type" => {
                    let names = VarianceType::ALL.map(VarianceType::name);
                    found.variance_type =
                        Some(entry.parse(&format!("one of {}", names.join(", ")))?);
                }
                "clip_sample_range" => found.thresholding = Some(entry.clip()?),
                "clipped_epsilon" => {
                    found.clipped_epsilon = Some(entry.parse("true or false")?);
                }
                "width" => found.width = Some(entry.integer(super::roles::MAX_SIDE)?),
                "height" => found.height = Some(entry.integer(super::roles::MAX_SIDE)?),
                "color" => found.color = Some(entry.parse("gray, rgb or rgba")?),
                "classes" => found.classes = entry.classes()?,
                "golden" => found.golden = Some(entry.golden()?),
                _ => log.log(
                    LogLevel::Warning,
                    format!("{model}: metadata {key} is not known to this version; ignored"),
                ),
            }
        }
        Ok(found)
    }
}

/// One pair on its way through the parser.
struct Entry<'a> {
    model: &'a str,
    key: &'a str,
    value: &'a str,
}

impl Entry<'_> {
    fn message(&self, expected: &str) -> String {
        let Self { model, key, value } = self;
        format!("{model}: metadata {key} is \"{value}\", expected {expected}")
    }

    fn refuse(&self, expected: &str) -> Error {
        Error::new(ErrorKind::Model, self.message(expected))
    }

    fn unsupported(&self, expected: &str) -> Error {
        let message = format!("{}; the rest is for a later version", self.message(expected));
        Error::new(ErrorKind::Unsupported, message)
    }

    fn parse<T: FromStr>(&self, expected: &str) -> Result<T> {
        self.value.parse().map_err(|_| self.refuse(expected))
    }

    fn number(&self, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64> {
        let number: f64 = self.parse(expected)?;
        if fits(number) { Ok(number) } else { Err(self.refuse(expected)) }
    }

    fn beta(&self) -> Result<f64> {
        self.number("a number between 0 and 1", |beta| beta > 0.0 && beta < 1.0)
    }

    fn integer(&self, max: usize) -> Result<usize> {
        let expected = format!("an integer from 1 to {max}");
        let number: usize = self.parse(&expected)?;
        if (1..=max).contains(&number) { Ok(number) } else { Err(self.refuse(&expected)) }
    }

    fn clip(&self) -> Result<Thresholding> {
        if self.value == "none" {
            return Ok(Thresholding::Off);
        }
        self.number("none or a finite number above 0", |range| range > 0.0 && range.is_finite())
            .map(Thresholding::Clip)
    }

    fn classes(&self) -> Result<Vec<String>> {
        serde_json::from_str::<serde_json::Value>(self.value)
            .ok()
            .and_then(|json| {
                let names = json.as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
                names.collect()
            })
            .ok_or_else(|| self.refuse("a JSON list of names"))
    }

    fn golden(&self) -> Result<Golden> {
        let parse = || {
            let json: serde_json::Value = serde_json::from_str(self.value).ok()?;
            let golden = Golden {
                seed: json.get("seed")?.as_u64()?,
                timestep: json.get("timestep")?.as_f64()?,
                label: json.get("label").map_or(Some(0), serde_json::Value::as_i64)?,
                mean_square: json.get("mean_square")?.as_f64()?,
            };
            let sensible = golden.timestep >= 0.0 && golden.mean_square > 0.0;
            sensible.then_some(golden)
        };
        parse().ok_or_else(|| {
            self.refuse(
                "{\"seed\": integer, \"timestep\": number, \"label\": integer, 0 where left out, \"mean_square\": number above 0}",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn parse(pairs: &[(&str, &str)]) -> Result<Metadata> {
        let owned: Vec<_> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Metadata::parse(&owned, "m.onnx", &Logger::default())
    }

    fn recording() -> (Logger, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let sink = move |_, text: &str| kept.lock().unwrap().push(text.to_owned());
        (Logger::new(Some(Arc::new(sink)), LogLevel::Debug), seen)
    }

    #[test]
    fn every_key_is_read() {
        let found = parse(&[
            ("ddpm.version", "1"),
            ("ddpm.prediction_type", "v_prediction"),
            ("ddpm.beta_schedule", "scaled_linear"),
            ("ddpm.beta_start", "0.00085"),
            ("ddpm.beta_end", "0.012"),
            ("ddpm.num_train_timesteps", "500"),
            ("ddpm.rescale_betas_zero_snr", "true"),
            ("ddpm.variance_type", "fixed_large"),
            ("ddpm.clip_sample_range", "none"),
            ("ddpm.clipped_epsilon", "true"),
            ("ddpm.width", "24"),
            ("ddpm.height", "16"),
            ("ddpm.color", "rgba"),
            ("ddpm.classes", r#"["cat", "dog"]"#),
            ("ddpm.golden", r#"{"seed": 7, "timestep": 500, "label": 1, "mean_square": 0.98}"#),
            ("author", "someone"),
        ])
        .unwrap();
        let expected = Metadata {
            prediction_type: Some(PredictionType::VPrediction),
            beta_schedule: Some("scaled_linear".to_owned()),
            beta_start: Some(0.00085),
            beta_end: Some(0.012),
            num_train_timesteps: Some(500),
            rescale_betas_zero_snr: Some(true),
            variance_type: Some(VarianceType::FixedLarge),
            thresholding: Some(Thresholding::Off),
            clipped_epsilon: Some(true),
            width: Some(24),
            height: Some(16),
            color: Some(Color::Rgba),
            classes: vec!["cat".to_owned(), "dog".to_owned()],
            golden: Some(Golden { seed: 7, timestep: 500.0, label: 1, mean_square: 0.98 }),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn every_schedule_and_variance_has_its_name() {
        for name in ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"] {
            let found = parse(&[("ddpm.beta_schedule", name)]).unwrap();
            assert_eq!(found.beta_schedule.as_deref(), Some(name));
        }
        for variance_type in VarianceType::ALL {
            let found = parse(&[("ddpm.variance_type", variance_type.name())]).unwrap();
            assert_eq!(found.variance_type, Some(variance_type));
        }
    }

    #[test]
    fn a_golden_without_a_label_is_of_class_0() {
        let golden = r#"{"seed": 7, "timestep": 500, "mean_square": 0.98}"#;
        let found = parse(&[("ddpm.golden", golden)]).unwrap();
        assert_eq!(found.golden.map(|golden| golden.label), Some(0));
    }

    #[test]
    fn junk_is_refused_by_key_value_and_what_is_accepted() {
        let cases = [
            ("ddpm.prediction_type", "junk", "epsilon, sample, v_prediction or mean"),
            ("ddpm.beta_schedule", "junk", "linear, scaled_linear"),
            ("ddpm.beta_start", "0", "between 0 and 1"),
            ("ddpm.beta_end", "NaN", "between 0 and 1"),
            ("ddpm.num_train_timesteps", "0", "an integer from 1"),
            ("ddpm.num_train_timesteps", "-1", "an integer from 1"),
            ("ddpm.rescale_betas_zero_snr", "yes", "true or false"),
            ("ddpm.clipped_epsilon", "1", "true or false"),
            ("ddpm.variance_type", "junk", "one of fixed_small, fixed_small_log, fixed_large"),
            ("ddpm.clip_sample_range", "0", "none or a finite number above 0"),
            ("ddpm.clip_sample_range", "inf", "none or a finite number above 0"),
            ("ddpm.width", "2147483647", "an integer from 1 to 16384"),
            ("ddpm.height", "1.5", "an integer from 1"),
            ("ddpm.color", "cmyk", "gray, rgb or rgba"),
            ("ddpm.classes", r#"{"a": 1}"#, "a JSON list of names"),
            ("ddpm.golden", r#"{"seed": -1, "timestep": 0, "mean_square": 1}"#, "seed"),
            ("ddpm.golden", "", "mean_square"),
            (
                "ddpm.golden",
                r#"{"seed": 1, "timestep": 0, "label": "a", "mean_square": 1}"#,
                "label",
            ),
        ];
        for (key, value, expected) in cases {
            let error = parse(&[(key, value)]).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Model, "{text}");
            assert!(text.starts_with(&format!("m.onnx: metadata {key} is \"{value}\"")), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn keys_of_another_version_are_unsupported() {
        let error = parse(&[("ddpm.version", "2")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("\"2\", expected 1"), "{error}");
    }

    #[test]
    fn unknown_keys_of_ours_are_logged_and_others_left_alone() {
        let (log, seen) = recording();
        let pairs = [("ddpm.new_thing", "1"), ("author", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Metadata::parse(&pairs, "m.onnx", &log).unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.len() == 1 && seen[0].contains("ddpm.new_thing"), "{seen:?}");
    }
}
