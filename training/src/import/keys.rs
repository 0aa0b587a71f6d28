//! A JSON file of diffusers whose every key has to be accounted for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest value that is shown whole.
const LONGEST: usize = 80;

/// A value for a message: a list may have a thousand numbers.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}

/// The keys that nobody has asked for yet.
pub struct Keys {
    file: String,
    left: Map<String, Value>,
}

impl Keys {
    /// Reads a file, which has to be one JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
        let left =
            serde_json::from_str(&text).with_context(|| format!("{file}: not a JSON object"))?;
        Ok(Self { file, left })
    }

    /// The file's path, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether the key is there, null or not.
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// The value of a key; none where it is missing or null.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.left.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .with_context(|| format!("{}: {key} is {}", self.file, short(&value))),
        }
    }

    /// The value of a key, diffusers' default where it is missing or null.
    pub fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// The value of a key that has to be there.
    pub fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T> {
        let found = self.optional(key)?;
        found.with_context(|| format!("{}: no {key}", self.file))
    }

    /// Refuses a key that has none of these values. Missing it counts as the first.
    pub fn only(&mut self, key: &str, expected: &[Value]) -> Result<()> {
        let Some(found) = self.left.remove(key) else { return Ok(()) };
        let same = |value: &Value| match (value.as_f64(), found.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => *value == found,
        };
        let shown: Vec<String> = expected.iter().map(Value::to_string).collect();
        ensure!(
            expected.iter().any(same),
            "{}: {key} is {}, which the network here does not have; expected {}",
            self.file,
            short(&found),
            shown.join(" or ")
        );
        Ok(())
    }

    /// Leaves a key aside that has no bearing on the output.
    pub fn ignore(&mut self, key: &str) {
        self.left.remove(key);
    }

    /// Refuses keys that nobody has asked for; those of the library itself begin with an underscore.
    pub fn finish(&self) -> Result<()> {
        match self.left.iter().find(|(key, _)| !key.starts_with('_')) {
            Some((key, value)) => {
                bail!("{}: {key} is {}, and is not known here", self.file, short(value))
            }
            None => Ok(()),
        }
    }
}
