//! A run written down and taken up again: a safetensors file of its samples and what its sampler keeps,
//! with everything else that it is a function of as metadata.
//!
//! What is read is not trusted: it is checked against the model in hand and against what such a run
//! keeps, and memory is taken by the size of what was given, never by a number in it.

use std::fmt::Display;
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::error::{Error, ErrorKind, Result};
use crate::model::ModelConfig;
use crate::noise_schedule::BetaSchedule;
use crate::run::{Run, RunState};

use super::blob_json::{RunText, cut, read_run, read_sampler, write_run, write_sampler};
use super::tensors::NamedTensors;

/// Of the format. A reader refuses what is higher.
const VERSION: u32 = 1;

/// The keys of the metadata: the version, and what follows a dot.
const VERSION_KEY: &str = "ddpm.blob";
const FINGERPRINT: &str = "model";
const SAMPLER: &str = "sampler";
const RUN: &str = "run";

/// The tensors besides those of a state.
const IMAGE: &str = "image";
const SAMPLE: &str = "sample";

/// The run as the bytes of a safetensors file, from which [`read_blob`] makes one that goes on as it
/// does, bit for bit.
///
/// `model` is the config the run was made with, and `fingerprint` tells the model's file from others.
/// Allocates some three times the file. Errors: `InvalidArgument` where the model has another shape, or
/// a step has failed in the middle and the run was not taken back since; `OutOfMemory`.
pub fn write_blob(run: &Run, model: &ModelConfig, fingerprint: &str) -> Result<Vec<u8>> {
    let [_, own @ ..] = run.shape();
    if sample_shape(model) != own {
        return Err(Error::invalid_argument(format!(
            "model: found samples of {:?}, expected {own:?} as in the run",
            sample_shape(model)
        )));
    }
    let mut state = RunState::new(run)?;
    run.save_state(&mut state)?;
    let mut tensors = NamedTensors::new();
    for (name, values) in state.parts().into_iter().filter(|(_, values)| !values.is_empty()) {
        tensors.push_f32(name, &run.shape(), values)?;
    }
    if let Some(image) = &run.start().image {
        tensors.push_f32(IMAGE, &own, image)?;
    }
    let mut metadata = vec![(VERSION_KEY.to_owned(), VERSION.to_string())];
    let texts = description(model).into_iter().chain([
        (FINGERPRINT, fingerprint.to_owned()),
        (SAMPLER, write_sampler(run.config())),
        (RUN, write_run(run)),
    ]);
    metadata.extend(texts.map(|(name, text)| (key_of(name), text)));
    let pairs: Vec<(&str, &str)> = metadata.iter().map(|(key, text)| (&**key, &**text)).collect();
    tensors.to_bytes(&pairs)
}

/// The run that [`write_blob`] wrote, at its step; what it began with is its [`Run::start`], its sampler
/// [`Run::config`].
///
/// `model` and `fingerprint` are those of the model in hand. Allocates the run. Errors, each with what
/// was found and what was expected: `Unsupported` where a newer library wrote it; `InvalidArgument`
/// where it is no whole safetensors file or none of a run, is of another model or of the same one read
/// in another way, or does not hold what such a run keeps; `OutOfMemory`.
pub fn read_blob(bytes: &[u8], model: &ModelConfig, fingerprint: &str) -> Result<Run> {
    let blob = Blob::new(bytes)?;
    blob.check_version()?;
    let found = blob.text(FINGERPRINT)?;
    if found != fingerprint {
        let (found, expected) = (shown(found), shown(fingerprint));
        return Err(refuse(format!("found one of the model {found}, expected of {expected}")));
    }
    for (name, expected) in description(model) {
        let found = blob.text(name)?;
        if found != expected {
            let (found, expected) = (shown(found), shown(&expected));
            return Err(refuse(format!(
                "found {name} {found}, expected {expected} as the model is used here"
            )));
        }
    }
    let of = |name: &'static str| move |reason: String| refuse(format!("{name}: {reason}"));
    let sampler = read_sampler(blob.text(SAMPLER)?).map_err(of(SAMPLER))?;
    let RunText { mut start, step, is_straight } = read_run(blob.text(RUN)?).map_err(of(RUN))?;

    let [channels, height, width] = sample_shape(model);
    // As many items as the file was checked to hold.
    let batch = match *blob.shape(SAMPLE)? {
        [batch, _, _, _] => batch,
        ref other => return Err(wrong_shape(SAMPLE, other, "[N, C, H, W]")),
    };
    let shape = [batch, channels, height, width];
    // Before memory is taken for so many.
    let _ = blob.floats(SAMPLE, &shape)?;
    if blob.header.info(IMAGE).is_some() {
        start.image = Some(Arc::from_iter(blob.floats(IMAGE, &shape[1..])?));
    }
    let own_error = |error: Error| Error::new(error.kind(), format!("{WHAT}: {error}"));
    let mut run = Run::starting(model, &sampler, start, batch).map_err(own_error)?;
    if step > run.steps() {
        return Err(refuse(format!("found step {step}, expected 0 to {}", run.steps())));
    }
    let mut state = RunState::new(&run)?;
    let mut names = vec![IMAGE];
    for (name, to) in state.parts_mut().into_iter().filter(|(_, to)| !to.is_empty()) {
        for (to, value) in to.iter_mut().zip(blob.floats(name, &shape)?) {
            *to = value;
        }
        names.push(name);
    }
    if let Some(other) = blob.header.offset_keys().iter().find(|name| !names.contains(&&***name)) {
        let kept = names.join(", ");
        return Err(refuse(format!("found a tensor {}, expected among {kept}", shown(other))));
    }
    state.set_step(&run, step, is_straight);
    run.restore_state(&state)?;
    Ok(run)
}

/// How the model is read, apart from its file: what changes a run if it changes.
fn description(model: &ModelConfig) -> [(&'static str, String); 7] {
    let betas = match &model.beta_schedule {
        BetaSchedule::Given(betas) => format!("given, with the hash {:016x}", hash(betas)),
        named => match named.ends() {
            Some((start, end)) => format!("{} from {start} to {end}", named.name()),
            None => named.name().to_owned(),
        },
    };
    let null = model.classes.and_then(|classes| classes.null);
    [
        ("shape", format!("{:?}", sample_shape(model))),
        ("output_channels", model.output_channels().to_string()),
        ("prediction_type", model.prediction_type.name().to_owned()),
        ("beta_schedule", betas),
        ("num_train_timesteps", model.num_train_timesteps.to_string()),
        ("rescale_betas_zero_snr", model.rescale_betas_zero_snr.to_string()),
        ("null_label", null.map_or_else(|| "none".to_owned(), |label| label.to_string())),
    ]
}

fn sample_shape(model: &ModelConfig) -> [usize; 3] {
    [model.channels, model.height, model.width]
}

/// FNV-1a over the bits, the same on every machine.
fn hash(values: &[f64]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

const WHAT: &str = "saved run";

fn refuse(message: impl Display) -> Error {
    Error::invalid_argument(format!("{WHAT}: {message}"))
}

fn wrong_shape(tensor: &str, found: &[usize], expected: impl Display) -> Error {
    refuse(format!("tensor \"{tensor}\" has the shape {found:?}, expected {expected}"))
}

/// A text of the file in a message.
fn shown(text: &str) -> String {
    cut(&format!("{text:?}"))
}

fn key_of(name: &str) -> String {
    format!("{VERSION_KEY}.{name}")
}

/// The file, checked as a whole.
struct Blob<'a> {
    header: Metadata,
    data: &'a [u8],
}

impl<'a> Blob<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        let (header_len, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refuse(format!("not a whole safetensors file: {error}")))?;
        // The length of the header stands in front of it, in eight bytes.
        let data = bytes.get(header_len + size_of::<u64>()..).unwrap_or_default();
        Ok(Self { header, data })
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    fn check_version(&self) -> Result<()> {
        let Some(version) = self.metadata(VERSION_KEY) else {
            return Err(refuse(format!(
                "found no \"{VERSION_KEY}\" in the metadata, expected the version of a saved run"
            )));
        };
        match version.parse() {
            Ok(VERSION) => Ok(()),
            Ok(newer @ VERSION..) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{WHAT}: found version {newer}, expected {VERSION}: update the library"),
            )),
            _ => Err(refuse(format!("found version {}, expected {VERSION}", shown(version)))),
        }
    }

    /// The text under the key of `name`.
    fn text(&self, name: &str) -> Result<&str> {
        let key = key_of(name);
        self.metadata(&key)
            .ok_or_else(|| refuse(format!("found no \"{key}\" in the metadata, expected one")))
    }

    fn shape(&self, tensor: &str) -> Result<&[usize]> {
        match self.header.info(tensor) {
            Some(info) => Ok(&info.shape),
            None => Err(refuse(format!("found no tensor \"{tensor}\", expected one"))),
        }
    }

    /// The values of a tensor of this shape, all finite.
    fn floats(&self, tensor: &str, shape: &[usize]) -> Result<impl Iterator<Item = f32> + use<'a>> {
        let found = self.shape(tensor)?;
        if found != shape {
            return Err(wrong_shape(tensor, found, format_args!("{shape:?}")));
        }
        let info = self.header.info(tensor);
        let (dtype, (start, end)) =
            info.map_or((Dtype::F32, (0, 0)), |i| (i.dtype, i.data_offsets));
        if dtype != Dtype::F32 {
            return Err(refuse(format!("tensor \"{tensor}\" is {dtype:?}, expected F32")));
        }
        // The offsets were checked against the file and the shape when it was read.
        let bytes = self.data.get(start..end).unwrap_or_default();
        let values = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        match values.clone().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(refuse(format!(
                "tensor \"{tensor}\" has a value that is not finite at {at}, expected none"
            ))),
        }
    }
}
