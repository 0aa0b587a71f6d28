//! Named tensors in a `.safetensors` file: noise that goes into a run, and what comes out of one.
//!
//! This module must not know what the tensors mean.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, View};

use crate::error::{Error, ErrorKind, Result};

use super::load::check_readable;

/// The tensors of a file, checked as a whole when it is read and decoded one at a time.
#[derive(Debug)]
pub struct TensorFile {
    name: String,
    header: Metadata,
    data: Vec<u8>,
}

impl TensorFile {
    /// Reads the file at `path`. Blocks; holds all of it in memory.
    ///
    /// Errors: `Io` where it cannot be read, or is not a whole and well-formed safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let refuse = |reason: String| Error::new(ErrorKind::Io, format!("{name}: {reason}"));
        check_readable(path)?;
        let mut data = fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let (header_len, header) = SafeTensors::read_metadata(&data)
            .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
        // The length of the header stands in front of it, in eight bytes.
        data.drain(..header_len + size_of::<u64>());
        Ok(Self { name, header, data })
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// The dimensions of a tensor; none where the file has no such tensor.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.header.info(tensor).map(|info| &*info.shape)
    }

    /// The text under `key` of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The values of a tensor in C order, from float64, float32, float16, bfloat16 or int64. Only an
    /// int64 beyond 2^53 is rounded.
    ///
    /// Errors: `Io` where the file has no such tensor, or it has another number type.
    pub fn f64(&self, tensor: &str) -> Result<Vec<f64>> {
        let refuse = |reason: String| {
            Error::new(ErrorKind::Io, format!("{}: tensor \"{tensor}\" {reason}", self.name))
        };
        let info = self.header.info(tensor).ok_or_else(|| refuse("is not there".to_owned()))?;
        let (start, end) = info.data_offsets;
        // The offsets were checked against the file when it was read.
        let bytes = self.data.get(start..end).unwrap_or_default();
        match info.dtype {
            Dtype::F64 => Ok(numbers(bytes, f64::from_le_bytes)),
            Dtype::F32 => Ok(numbers(bytes, |bytes| f32::from_le_bytes(bytes).into())),
            Dtype::F16 => Ok(numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f64())),
            Dtype::BF16 => Ok(numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f64())),
            Dtype::I64 => Ok(numbers(bytes, |bytes| i64::from_le_bytes(bytes) as f64)),
            other => Err(refuse(format!("is {other:?}, expected F64, F32, F16, BF16 or I64"))),
        }
    }

    /// The same, rounded to float32. Errors: as [`f64`](Self::f64).
    pub fn f32(&self, tensor: &str) -> Result<Vec<f32>> {
        Ok(self.f64(tensor)?.into_iter().map(|value| value as f32).collect())
    }
}

fn numbers<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&bytes| from(bytes)).collect()
}

/// Tensors on their way into a file.
#[derive(Debug, Default)]
pub struct NamedTensors(BTreeMap<String, Encoded>);

#[derive(Debug)]
struct Encoded {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl NamedTensors {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds float32 values in C order.
    ///
    /// Errors: `InvalidArgument` where the shape holds another number of values, or the name is taken.
    pub fn push_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push(name, Dtype::F32, shape, values.len(), bytes)
    }

    /// Adds float64 values in C order. Errors: as [`push_f32`](Self::push_f32).
    pub fn push_f64(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Result<()> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push(name, Dtype::F64, shape, values.len(), bytes)
    }

    fn push(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        len: usize,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let holds = shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim));
        if holds != Some(len) {
            return Err(Error::invalid_argument(format!(
                "tensor \"{name}\": found {len} values, expected those of shape {shape:?}"
            )));
        }
        if self.0.contains_key(name) {
            return Err(Error::invalid_argument(format!("tensor \"{name}\": found twice")));
        }
        self.0.insert(name.to_owned(), Encoded { dtype, shape: shape.to_vec(), bytes });
        Ok(())
    }

    /// The bytes of a safetensors file of these tensors, with `metadata`, pairs of key and text.
    ///
    /// Errors: `InvalidArgument` where there are more names than the format's header holds.
    pub fn to_bytes(&self, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
        let pairs = metadata.iter().map(|&(key, text)| (key.to_owned(), text.to_owned()));
        safetensors::serialize(&self.0, Some(HashMap::from_iter(pairs)))
            .map_err(|error| Error::invalid_argument(format!("tensors: {error}")))
    }
}

impl View for &Encoded {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (std::path::PathBuf, Result<TensorFile>) {
        let path = std::env::temp_dir().join(format!("ddpm-tensors-{name}-{}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let file = TensorFile::read(&path);
        fs::remove_file(&path).unwrap();
        (path, file)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut tensors = NamedTensors::new();
        tensors.push_f32("x", &[2, 1, 2], &[0.5, -1.0, f32::MIN_POSITIVE, 3e38]).unwrap();
        tensors.push_f64("t", &[1], &[999.123456789]).unwrap();
        let (_, file) = written("both", &tensors.to_bytes(&[("config", "{}")]).unwrap());
        let file = file.unwrap();
        assert_eq!(file.names(), ["t", "x"]);
        assert_eq!(file.shape("x"), Some(&[2, 1, 2][..]));
        assert_eq!(file.f32("x").unwrap(), [0.5, -1.0, f32::MIN_POSITIVE, 3e38]);
        assert_eq!(file.f64("t").unwrap(), [999.123456789]);
        assert_eq!((file.metadata("config"), file.metadata("else")), (Some("{}"), None));
    }

    #[test]
    fn half_floats_and_integers_are_read_as_numbers() {
        let encoded = |dtype, bytes: Vec<u8>| Encoded { dtype, shape: vec![1], bytes };
        let tensors = NamedTensors(BTreeMap::from([
            ("f16".to_owned(), encoded(Dtype::F16, f16::from_f32(-1.5).to_le_bytes().to_vec())),
            ("bf16".to_owned(), encoded(Dtype::BF16, bf16::from_f32(2.5).to_le_bytes().to_vec())),
            ("i64".to_owned(), encoded(Dtype::I64, (-7i64).to_le_bytes().to_vec())),
            ("u8".to_owned(), encoded(Dtype::U8, vec![9])),
        ]));
        let (path, file) = written("types", &tensors.to_bytes(&[]).unwrap());
        let file = file.unwrap();
        for (name, expected) in [("f16", -1.5), ("bf16", 2.5), ("i64", -7.0)] {
            assert_eq!(file.f64(name).unwrap(), [expected], "{name}");
            assert_eq!(file.f32(name).unwrap(), [expected as f32], "{name}");
        }
        let error = file.f64("u8").unwrap_err();
        let text = format!("{}: tensor \"u8\" is U8, expected F64", path.display());
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(file.f32("y").unwrap_err().to_string().ends_with("tensor \"y\" is not there"));
    }

    #[test]
    fn what_is_no_file_of_tensors_is_refused_by_name() {
        let mut tensors = NamedTensors::new();
        tensors.push_f32("x", &[2], &[1.0, 2.0]).unwrap();
        let bytes = tensors.to_bytes(&[]).unwrap();
        for (name, bytes) in
            [("empty", &[][..]), ("text", b"not a tensor"), ("cut", &bytes[..bytes.len() - 1])]
        {
            let (path, file) = written(name, bytes);
            let error = file.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let text = format!("{}: not a safetensors file: ", path.display());
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        let error = TensorFile::read(Path::new("no/such.safetensors")).unwrap_err();
        assert!(error.to_string().starts_with("no/such.safetensors: "), "{error}");
    }

    #[test]
    fn misfits_are_refused_before_they_are_written() {
        let mut tensors = NamedTensors::new();
        let error = tensors.push_f32("x", &[2, 2], &[1.0; 3]).unwrap_err();
        assert!(error.to_string().starts_with("tensor \"x\": found 3 values"), "{error}");
        tensors.push_f64("x", &[], &[1.0]).unwrap();
        assert!(tensors.push_f32("x", &[1], &[1.0]).unwrap_err().to_string().contains("twice"));
    }
}
