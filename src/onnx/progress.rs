//! How far a load is, told by the thread that loads and asked for by any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a load is doing. It goes from one to the next and never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadStage {
    /// Looking for the ONNX Runtime library and starting it.
    Runtime,
    /// Reading the model file.
    Model,
    /// ONNX Runtime reads the model, optimises its graph and lays out its weights. It does not say how
    /// far it is. A fallback to the CPU does it twice.
    Optimise,
    /// Running the model for the first time.
    FirstRuns,
    /// All is done.
    Done,
}

impl LoadStage {
    const ALL: [Self; 5] =
        [Self::Runtime, Self::Model, Self::Optimise, Self::FirstRuns, Self::Done];

    /// The part of a load that is behind where the stage begins, of one whose model is some ten
    /// megabytes.
    fn start(self) -> f32 {
        match self {
            Self::Runtime => 0.0,
            Self::Model => 0.05,
            Self::Optimise => 0.2,
            Self::FirstRuns => 0.7,
            Self::Done => 1.0,
        }
    }
}

/// Where a load tells how far it is. Clones are the same; a new one is for one load.
///
/// Both sides take no lock, wait for nothing and do not allocate.
#[derive(Clone, Debug, Default)]
pub struct LoadMonitor(Arc<AtomicU64>);

impl LoadMonitor {
    /// The stage, and the part of the load that is done, 0 to 1. Neither ever goes back. The part follows
    /// how long the stages usually take, and moves in steps: it is no promise about time.
    pub fn get(&self) -> (LoadStage, f32) {
        let packed = self.0.load(Ordering::Relaxed);
        let stage = LoadStage::ALL.get((packed >> 32) as usize).copied();
        (stage.unwrap_or(LoadStage::Done), f32::from_bits(packed as u32))
    }

    /// Enters a stage, or goes on in it: `part` of it is done, 0 to 1.
    pub(super) fn set(&self, stage: LoadStage, part: f32) {
        let next = LoadStage::ALL.get(stage as usize + 1).map_or(1.0, |next| next.start());
        let fraction = stage.start() + (next - stage.start()) * part.clamp(0.0, 1.0);
        // The bits of floats that are not negative are in the order of the floats.
        let packed = (stage as u64) << 32 | u64::from(fraction.to_bits());
        self.0.fetch_max(packed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_does_not_go_back() {
        let monitor = LoadMonitor::default();
        assert_eq!(monitor.get(), (LoadStage::Runtime, 0.0));
        let mut last = monitor.get();
        for stage in LoadStage::ALL.into_iter().chain(LoadStage::ALL) {
            for part in [0.0, 0.5, 1.0, 0.2] {
                monitor.set(stage, part);
                let now = monitor.get();
                assert!(now.0 >= last.0 && now.1 >= last.1, "{last:?} to {now:?}");
                last = now;
            }
        }
        assert_eq!(last, (LoadStage::Done, 1.0));
    }
}
