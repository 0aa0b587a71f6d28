//! From a model file to a [`OnnxDenoiser`]: the session, and all that the file and the caller say.

use std::num::NonZero;
use std::path::Path;

use ort::session::Session;
use ort::value::Outlet;

use crate::error::{Error, ErrorKind, Result};
use crate::log::LogLevel;

use super::classes::classes;
use super::commit::Committed;
use super::fingerprint::Fingerprint;
use super::fuse::is_added;
use super::interrupt::Interrupt;
use super::library::Runtime;
use super::metadata::{GOLDEN, Metadata, PREFIX};
use super::parts::Parts;
use super::ports::Port;
use super::progress::LoadStage;
use super::provider::Provider;
use super::resolve::{Facts, Sources};
use super::roles::Roles;
use super::scheduler_config::{SchedulerConfig, beside, read_text};
use super::session::{OnnxDenoiser, OnnxInfo};
use super::{ModelSource, OnnxOptions};

/// More threads than this are a mistake.
const MAX_THREADS: u32 = 1024;

/// One call of `load`, which may try two providers.
pub(super) struct Loading<'a> {
    pub(super) source: &'a ModelSource,
    pub(super) options: &'a OnnxOptions,
    pub(super) interrupt: &'a Interrupt,
    pub(super) runtime: &'static Runtime,
    pub(super) parts: &'a Parts,
    pub(super) fingerprint: &'a Fingerprint,
    pub(super) threads: u32,
}

impl Loading<'_> {
    pub(super) fn on(&self, provider: Provider) -> Result<OnnxDenoiser> {
        let Self { source, options, interrupt, runtime, parts, fingerprint, threads } = *self;
        let name = source.name();
        let Committed { session: (session, device), cache, is_fused } = self.session(provider)?;
        let overrides = &options.overrides;
        let ports = |outlets: &[Outlet]| -> Vec<Port> {
            outlets.iter().filter(|outlet| !is_added(outlet.name())).map(Port::from).collect()
        };
        let (inputs, outputs) = (ports(session.inputs()), ports(session.outputs()));
        let roles = Roles::find(&inputs, &outputs, overrides, &name)?;
        let contract = roles.contract(&inputs, &outputs);
        let mut pairs = metadata_pairs(&session)
            .map_err(|error| Error::new(ErrorKind::Model, format!("{name}: metadata: {error}")))?;
        let log = &options.log;
        if let Some(golden) = &parts.golden {
            // That of the model is of its own weights.
            let count = pairs.len();
            pairs.retain(|(key, _)| key != GOLDEN);
            if golden.is_none() && pairs.len() < count {
                let text = format!("{name}: not verified, as {GOLDEN} is of weights that it had");
                log.log(LogLevel::Info, text);
            }
            pairs.extend(golden.iter().map(|text| (GOLDEN.to_owned(), text.clone())));
        }
        let metadata = Metadata::parse(&pairs, &name, log)?;
        let scheduler = scheduler_of(source, options)?;
        let shape = roles.shape(overrides, &metadata, &name)?;
        for (key, said, given, side) in [
            ("height", metadata.height, overrides.height, shape.height),
            ("width", metadata.width, overrides.width, shape.width),
        ] {
            if let (Some(said), None) = (said, given)
                && said != side
            {
                let input = &roles.sample.name;
                let text = format!(
                    "{name}: metadata {PREFIX}{key} is {said}, but input \"{input}\" is fixed to {side}; taking that"
                );
                log.log(LogLevel::Warning, text);
            }
        }
        let fixed_batch = roles.fixed_batch(&inputs, &name)?;
        let classes = classes(roles.label.as_ref(), &metadata.classes, overrides, &name, log)?;
        let whole_timesteps = roles.timestep.is_whole();
        let output = roles.output.name.as_str();
        let sources = Sources {
            overrides,
            scheduler: scheduler.as_ref().map(|(config, name)| (config, name.as_str())),
            metadata: &metadata,
            model: &name,
            log,
        };
        let model = sources.resolve(&Facts { shape, classes, whole_timesteps, output })?;
        let info = OnnxInfo {
            provider,
            fallback_reason: None,
            device: None,
            contract,
            model,
            classes: if classes.is_some() { metadata.classes } else { Vec::new() },
            fixed_batch,
            runtime_version: runtime.version().to_owned(),
            runtime_library: runtime.path().to_owned(),
            threads,
            fingerprint: fingerprint.hex.clone(),
            cache,
            is_fused,
        };
        let mut loaded = OnnxDenoiser::new((session, device), interrupt.clone(), roles, info, name);
        options.progress.set(LoadStage::FirstRuns, 0.0);
        loaded.try_out(metadata.golden, overrides.null_label, log)?;
        let size = format!("{}x{}", shape.width, shape.height);
        log.log(LogLevel::Info, format!("{}: {size}, on the {provider}", source.name()));
        Ok(loaded)
    }
}

/// The scheduler config of the caller, else the one that lies beside the model, with its path; beside a
/// model that is not on disk lies none.
fn scheduler_of(
    source: &ModelSource,
    options: &OnnxOptions,
) -> Result<Option<(SchedulerConfig, String)>> {
    let path = match (&options.scheduler_config, source) {
        (Some(path), _) => Some(path.clone()),
        (None, ModelSource::Path(model)) => beside(model),
        (None, _) => None,
    };
    let Some(path) = path else {
        return Ok(None);
    };
    let name = path.display().to_string();
    Ok(Some((SchedulerConfig::parse(&read_text(&path)?, &name, &options.log)?, name)))
}

fn metadata_pairs(session: &Session) -> ort::Result<Vec<(String, String)>> {
    let metadata = session.metadata()?;
    let mut keys = metadata.custom_keys()?;
    // The runtime keeps them in a hash map; errors should not depend on its order.
    keys.sort();
    Ok(keys.into_iter().filter_map(|key| metadata.custom(&key).map(|value| (key, value))).collect())
}

pub(super) fn threads(given: u32) -> Result<u32> {
    match given {
        0 => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            Ok((cores.saturating_sub(1).max(1) as u32).min(MAX_THREADS))
        }
        1..=MAX_THREADS => Ok(given),
        _ => Err(Error::invalid_argument(format!(
            "threads: found {given}, expected 0 (automatic) to {MAX_THREADS}"
        ))),
    }
}

/// Whether there is a file to read. A pipe or a device may never end, and a folder is named badly by
/// whoever reads on. Errors: `Io`.
pub(super) fn check_readable(path: &Path) -> Result<()> {
    let refuse =
        |reason: String| Error::new(ErrorKind::Io, format!("{}: {reason}", path.display()));
    let found = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if !found.is_file() {
        return Err(refuse("not a file".to_owned()));
    }
    std::fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
    Ok(())
}

pub(super) fn provider_fault(provider: Provider, error: &Error) -> Error {
    let message = format!("{provider}: {error} (the same model runs on the CPU)");
    Error::new(ErrorKind::Provider, message)
}

pub(super) fn internal(error: ort::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("ONNX Runtime: {error}"))
}
