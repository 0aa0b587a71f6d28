//! The engines, one of each kind at a time, each replaced now and then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ddpm::engine::{Engine, EngineConfig, FusedStep, Provider};
use ddpm::error::ErrorKind;

use super::HANG;
use super::recipes::{KINDS, Kind};

/// An engine, and how many there were before it in its place.
#[derive(Clone)]
pub struct Placed {
    pub engine: Arc<Engine>,
    pub generation: u64,
}

pub struct Pool {
    places: Vec<Mutex<Placed>>,
    /// Where every other kind of engine keeps its optimised graph.
    cache: PathBuf,
}

fn config(kind: &Kind) -> EngineConfig {
    let mut config = EngineConfig::new(kind.path());
    config.provider = Provider::Cpu;
    config.threads = 1;
    config.max_batch = kind.max_batch;
    config
}

fn start(kind: usize, generation: u64, cache: &Path) -> Arc<Engine> {
    let cache_dir = Some(cache.to_owned()).filter(|_| kind.is_multiple_of(2));
    // Every other one makes steps whole where its model lies.
    let is_fused = (kind as u64 + generation) % 2 == 1;
    let fused_step = if is_fused { FusedStep::On } else { FusedStep::Off };
    Arc::new(Engine::new(EngineConfig { cache_dir, fused_step, ..config(&KINDS[kind]) }).unwrap())
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.places.clear();
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.cache);
    }
}

impl Pool {
    /// Starts them; they may still load.
    pub fn new() -> Self {
        let cache = std::env::temp_dir().join(format!("ddpm-soak-{}", std::process::id()));
        let place = |kind| Mutex::new(Placed { engine: start(kind, 0, &cache), generation: 0 });
        Self { places: (0..KINDS.len()).map(place).collect(), cache }
    }

    /// The engine of this kind. Dropping the last handle of one that was replaced closes it.
    pub fn engine(&self, kind: usize) -> Placed {
        self.places[kind].lock().unwrap().clone()
    }

    /// How many engines of this kind were replaced.
    pub fn generation(&self, kind: usize) -> u64 {
        self.places[kind].lock().unwrap().generation
    }

    /// Puts a new engine, which may still load, in the place of another, which may be at work. `closes`
    /// it, or leaves that to whoever holds its last handle.
    pub fn replace(&self, kind: usize, closes: bool) {
        let engine = start(kind, self.generation(kind) + 1, &self.cache);
        let mut place = self.places[kind].lock().unwrap();
        let generation = place.generation + 1;
        let old = std::mem::replace(&mut *place, Placed { engine, generation });
        // From here on its streams may say that it is closed.
        drop(place);
        if closes {
            old.engine.close().unwrap();
        }
    }
}

/// An engine that cannot be: it says why, and leaves nothing behind.
pub fn fail_to_load() {
    let broken = KINDS[0].path().with_file_name("ir_version_99.onnx");
    let engine = Engine::new(EngineConfig { model: broken.into(), ..config(&KINDS[0]) }).unwrap();
    let error = engine.wait(Some(HANG)).expect_err("a model of IR version 99 loads");
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
}
