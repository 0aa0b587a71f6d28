//! From a model file, or what the cache has of it, to a session of ONNX Runtime.

use std::path::Path;
use std::sync::Arc;

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

use super::cache::{Cache, CacheUse};
use super::helpers::Threads;
use super::library::check_room_for_session;
use super::load::{Loading, internal};
use super::parts::Body;
use super::progress::LoadStage;
use super::provider::{Device, Provider, register};
use super::{FusedStep, fuse};

/// What the runtime says of every graph that it writes. The cache's key is about just that.
const WRITES_A_GRAPH: &str = "Serializing optimized model with Graph Optimization level";

/// What a session is made from.
#[derive(Clone, Copy)]
enum Graph<'a> {
    /// The model. Its graph is optimised, and written to a file where there is one.
    Model { write: Option<&'a Path> },
    /// The model with a fused step in it.
    Fused(&'a [u8]),
    /// What was written so.
    Optimised(&'a [u8]),
}

/// A session, and what it has of the device that it runs on.
pub(super) type OnDevice = (Session, Device);

/// A session, and what became of what was asked for beside it.
pub(super) struct Committed {
    pub(super) session: OnDevice,
    pub(super) cache: CacheUse,
    /// Whether its graph has a fused step.
    pub(super) is_fused: bool,
}

impl Loading<'_> {
    /// The session, with a fused step where one is wanted.
    pub(super) fn session(&self, provider: Provider) -> Result<Committed> {
        self.options.progress.set(LoadStage::Optimise, 0.0);
        let wanted = match self.options.fused_step {
            FusedStep::On => true,
            FusedStep::Off => false,
            FusedStep::Auto => provider == Provider::Cuda,
        };
        if wanted {
            match self.fused(provider) {
                Ok(session) => {
                    let cache = match self.options.cache_dir {
                        None => CacheUse::Off,
                        Some(_) => self.unused("a graph with a fused step is not kept".to_owned()),
                    };
                    return Ok(Committed { session, cache, is_fused: true });
                }
                // What is no fault of the graph's would stop the plain one as well.
                Err(error)
                    if self.options.fused_step == FusedStep::On
                        || !matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Model) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    self.interrupt.check()?;
                    let text = format!("steps are not fused: {error}");
                    self.options.log.log(LogLevel::Warning, text);
                }
            }
        }
        let (session, cache) = self.plain(provider)?;
        Ok(Committed { session, cache, is_fused: false })
    }

    fn fused(&self, provider: Provider) -> Result<OnDevice> {
        let name = self.source.name();
        let mut bytes = self.parts.copy_of_model(&name, self.interrupt)?;
        let addition = fuse::addition(&bytes, &self.options.overrides, &name)?;
        bytes.extend(addition);
        self.commit(provider, Graph::Fused(&bytes))
    }

    /// The session, and how it went with the cache.
    fn plain(&self, provider: Provider) -> Result<(OnDevice, CacheUse)> {
        let Some(folder) = &self.options.cache_dir else {
            let session = self.commit(provider, Graph::Model { write: None })?;
            return Ok((session, CacheUse::Off));
        };
        let without = |reason: String| {
            let session = self.commit(provider, Graph::Model { write: None })?;
            Ok((session, self.unused(reason)))
        };
        if folder.as_os_str().is_empty() {
            return without("the folder's name is empty".to_owned());
        }
        if provider != Provider::Cpu {
            return without(format!("what is optimised for {provider} is not kept"));
        }
        let cache = Cache::new(folder, self.fingerprint, self.runtime);
        let entry = cache.entry();
        let made_anew = |reason: &str| {
            let text = format!("{}: {reason}; it is made anew", entry.display());
            self.options.log.log(LogLevel::Warning, text);
        };
        match cache.read() {
            Ok(Some(bytes)) => match self.commit(provider, Graph::Optimised(&bytes)) {
                Ok(session) => {
                    let text =
                        format!("{}: optimised before, {}", self.source.name(), entry.display());
                    self.options.log.log(LogLevel::Info, text);
                    return Ok((session, CacheUse::Hit));
                }
                Err(error) => {
                    self.interrupt.check()?;
                    made_anew(error.message());
                }
            },
            Ok(None) => {}
            Err(reason) => made_anew(&reason),
        }
        let file = match cache.begin() {
            Ok(file) => file,
            Err(reason) => return without(format!("{}: {reason}", folder.display())),
        };
        let session = match self.commit(provider, Graph::Model { write: Some(file.path()) }) {
            Ok(session) => session,
            Err(error) => {
                self.interrupt.check()?;
                // A full disk, or a graph that no protobuf file holds: the model may be good.
                drop(file);
                return without(error.to_string());
            }
        };
        if !self.fingerprint.still_holds() {
            let reason = "the model file changed while it was loaded".to_owned();
            return Ok((session, self.unused(reason)));
        }
        Ok(match cache.finish(file) {
            Ok(()) => (session, CacheUse::Written),
            Err(reason) => (session, self.unused(format!("{}: {reason}", entry.display()))),
        })
    }

    fn unused(&self, reason: String) -> CacheUse {
        let text = format!("{}: the optimised graph is not cached: {reason}", self.source.name());
        self.options.log.log(LogLevel::Warning, text);
        CacheUse::Unused(reason)
    }

    fn commit(&self, provider: Provider, graph: Graph<'_>) -> Result<OnDevice> {
        let name = self.source.name();
        let spawner = self.options.spawner.as_ref();
        let helpers = (self.threads as usize).saturating_sub(1);
        let threads = spawner.map(|spawner| Threads::start(spawner, helpers)).transpose()?;
        check_room_for_session()?;
        let builder = self.builder(graph, threads).map_err(internal)?;
        let (mut builder, device) = register(provider, builder, self.runtime, self.options)?;
        self.interrupt.watch(builder.canceler());
        let from_memory = |bytes: &[u8], builder| {
            Ok::<_, Error>(self.parts.attach(builder, self.interrupt)?.commit_from_memory(bytes))
        };
        let session = match (graph, &self.parts.body) {
            (Graph::Optimised(bytes) | Graph::Fused(bytes), _) => from_memory(bytes, builder)?,
            (_, Body::File(path)) => builder.commit_from_file(path),
            (_, Body::Memory(bytes)) => from_memory((**bytes).as_ref(), builder)?,
        };
        self.interrupt.check()?;
        match session {
            Ok(session) => Ok((session, device)),
            Err(error) => Err(Error::new(
                ErrorKind::Model,
                format!(
                    "{name}: not a model that ONNX Runtime {} loads: {}",
                    self.runtime.version(),
                    device.explain(error.message())
                ),
            )),
        }
    }

    fn builder(&self, graph: Graph<'_>, threads: Option<Threads>) -> ort::Result<SessionBuilder> {
        let log = self.options.log.clone();
        let level = if log.accepts(LogLevel::Debug) {
            ort::logging::LogLevel::Info
        } else {
            ort::logging::LogLevel::Warning
        };
        let mut builder = Session::builder(self.runtime.environment())?
            .with_intra_threads(self.threads as usize)?
            .with_inter_threads(1)?
            // A spinning pool takes the cores that the host draws its frames on.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(true)?
            .with_no_environment_execution_providers()?
            .with_log_level(level)?
            .with_logger(Arc::new(move |level, _: &str, _: &str, _: &str, text: &str| {
                forward(&log, level, text);
            }))?;
        if let Some(threads) = threads {
            builder = builder.with_thread_manager(threads)?;
        }
        let level = match graph {
            // A second time it could come out otherwise.
            Graph::Optimised(_) => GraphOptimizationLevel::Disable,
            Graph::Model { .. } | Graph::Fused(_) => GraphOptimizationLevel::All,
        };
        let builder = builder.with_optimization_level(level)?;
        Ok(match graph {
            Graph::Model { write: Some(path) } => builder.with_optimized_model_path(path)?,
            _ => builder,
        })
    }
}

fn forward(log: &Logger, level: ort::logging::LogLevel, text: &str) {
    use ort::logging::LogLevel as Level;
    let level = match level {
        _ if text.starts_with(WRITES_A_GRAPH) => LogLevel::Debug,
        Level::Fatal | Level::Error => LogLevel::Error,
        Level::Warning => LogLevel::Warning,
        Level::Info | Level::Verbose => LogLevel::Debug,
    };
    if log.accepts(level) {
        log.log(level, format!("ONNX Runtime: {text}"));
    }
}
