//! The JSON object of a scheduler config, read key by key: types, defaults, and what is left over.
//!
//! This module must not know what the keys mean.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

/// Where the values of the keys that were asked for came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys {
    /// Those that the text has.
    pub(super) given: Vec<&'static str>,
    /// The others, each with the default that was taken.
    pub(super) defaults: Vec<(&'static str, String)>,
}

/// One config on its way through the reader.
pub(super) struct SchedulerJson<'a> {
    /// How messages name it.
    name: &'a str,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    keys: Keys,
    /// What was given and is not heeded.
    ignored: Vec<String>,
}

impl<'a> SchedulerJson<'a> {
    /// Errors: `Model` where `text` is no JSON object.
    pub(super) fn new(text: &str, name: &'a str) -> Result<Self> {
        let refuse = |reason: String| Error::new(ErrorKind::Model, format!("{name}: {reason}"));
        let values = serde_json::from_str(&python_constants_as_text(text))
            .map_err(|error| refuse(format!("not JSON: {error}")))?;
        match values {
            Value::Object(values) => Ok(Self {
                name,
                values,
                known: Vec::new(),
                keys: Keys::default(),
                ignored: Vec::new(),
            }),
            other => Err(refuse(format!("found {}, expected a JSON object", shown(&other)))),
        }
    }

    /// Whether the key is there and not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_null())
    }

    pub(super) fn number(&mut self, key: &'static str, default: f64) -> Result<f64> {
        self.read(key, "a number", default, |value| value.as_f64(), f64::to_string)
    }

    pub(super) fn integer(&mut self, key: &'static str, default: usize) -> Result<usize> {
        let read = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        self.read(key, "an integer, not negative", default, read, usize::to_string)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool> {
        self.read(key, "true or false", default, Value::as_bool, bool::to_string)
    }

    pub(super) fn text(&mut self, key: &'static str, default: &str) -> Result<String> {
        let read = |value: &Value| value.as_str().map(str::to_owned);
        self.read(key, "a text", default.to_owned(), read, String::clone)
    }

    /// A value with a name, one of `names`.
    pub(super) fn named<T: FromStr>(
        &mut self,
        key: &'static str,
        default: &str,
        names: &str,
    ) -> Result<T> {
        let text = self.text(key, default)?;
        text.parse().map_err(|_| self.refuse(key, names))
    }

    /// A list of numbers; `None` where it is absent or null.
    pub(super) fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>> {
        self.known.push(key);
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let numbers = || value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>();
                let numbers = numbers().ok_or_else(|| self.refuse(key, "a list of numbers"))?;
                self.keys.given.push(key);
                Ok(Some(numbers))
            }
        }
    }

    /// A key that has to keep its default, absent or given. Errors: `Unsupported`.
    pub(super) fn keep(&mut self, key: &'static str, default: Value) -> Result<()> {
        self.known.push(key);
        if self.is_other(key, &default) {
            return Err(self.unsupported(key, &default.to_string()));
        }
        Ok(())
    }

    /// A key without effect: another value than the default is reported.
    pub(super) fn without_effect(&mut self, key: &'static str, default: Value) {
        self.known.push(key);
        if self.is_other(key, &default) {
            self.ignore(key);
        }
    }

    /// Reports that the key's value is not heeded.
    pub(super) fn ignore(&mut self, key: &str) {
        let value = self.shown(key);
        self.ignored.push(format!("{key} {value}"));
    }

    fn is_other(&self, key: &str, default: &Value) -> bool {
        let Some(value) = self.values.get(key) else {
            return false;
        };
        // 10 and 10.0 are one number.
        match (value.as_f64(), default.as_f64()) {
            (Some(value), Some(default)) => value != default,
            _ => value != default,
        }
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        default: T,
        read: impl Fn(&Value) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Result<T> {
        self.known.push(key);
        match self.values.get(key) {
            Some(value) => {
                let value = read(value).ok_or_else(|| self.refuse(key, expected))?;
                self.keys.given.push(key);
                Ok(value)
            }
            None => {
                self.keys.defaults.push((key, show(&default)));
                Ok(default)
            }
        }
    }

    /// An error of the whole.
    pub(super) fn fault(&self, kind: ErrorKind, message: &str) -> Error {
        Error::new(kind, format!("{}: {message}", self.name))
    }

    /// The error of a value that cannot be.
    pub(super) fn refuse(&self, key: &str, expected: &str) -> Error {
        let message = format!("{key} is {}, expected {expected}", self.shown(key));
        self.fault(ErrorKind::Model, &message)
    }

    /// The error of a value that this version does not have, though diffusers may.
    pub(super) fn unsupported(&self, key: &str, expected: &str) -> Error {
        let message = format!(
            "{key} is {}, which this version does not have, expected {expected}",
            self.shown(key)
        );
        self.fault(ErrorKind::Unsupported, &message)
    }

    fn shown(&self, key: &str) -> String {
        self.values.get(key).map_or("absent".to_owned(), shown)
    }

    /// Warns, in one message, of keys that nobody asked for and of values not heeded.
    pub(super) fn finish(self, class: &str, log: &Logger) -> Keys {
        let unknown = self.values.keys().filter(|key| {
            // diffusers' own notes, such as `_diffusers_version`.
            !key.starts_with('_') && !self.known.contains(&key.as_str())
        });
        // A key can be any text, and there can be any number of them.
        let unknown = unknown.map(|key| cut(&key.escape_debug().to_string()));
        let mut ignored: Vec<String> = unknown.chain(self.ignored).collect();
        if ignored.len() > MOST_NAMED {
            let more = ignored.len() - MOST_NAMED;
            ignored.truncate(MOST_NAMED);
            ignored.push(format!("and {more} more"));
        }
        if !ignored.is_empty() {
            log.log(
                LogLevel::Warning,
                format!(
                    "{}: ignored, as {class} has no use for it: {}",
                    self.name,
                    ignored.join(", ")
                ),
            );
        }
        self.keys
    }
}

/// Keys that a message names, at most.
const MOST_NAMED: usize = 32;

/// The value as JSON; a long list by its length, a long text by its beginning.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(list) if list.len() > 8 => format!("a list of {}", list.len()),
        value => cut(&value.to_string()),
    }
}

/// The beginning of a text that is too long for a message.
fn cut(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Python writes infinities and NaN as bare words, which JSON does not have: made texts here.
fn python_constants_as_text(text: &str) -> String {
    const CONSTANTS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut is_quoted, mut is_escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if !is_quoted && let Some(word) = CONSTANTS.iter().find(|word| rest.starts_with(**word)) {
            out.push_str(&format!("\"{word}\""));
            rest = &rest[word.len()..];
            continue;
        }
        if next == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = next == '\\' && !is_escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}
