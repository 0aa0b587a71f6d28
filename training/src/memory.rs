//! Whether a run has a chance to fit into memory: where it has not, the system would end it in the middle,
//! without a word.

use anyhow::{Result, ensure};
use burn::tensor::Device;

use crate::config::Config;
use crate::device;
use crate::parameters::specs;

/// Arrays of the size of a weight: itself, its average, two moments and the gradient.
const OF_WEIGHT: u64 = 5;
/// Arrays that a residual block surely keeps for its gradient: what goes into its norms, activations and
/// convolutions. With these it is three quarters of what was measured with three configurations.
const OF_BLOCK: u64 = 6;
/// Bytes of a float.
const FLOAT: u64 = 4;

/// Refuses a run that surely takes more memory than the machine has, as far as that is known.
pub fn check(config: &Config, device: &Device) -> Result<()> {
    let Some(there) = of_machine().filter(|_| device::is_cpu(device)) else { return Ok(()) };
    let (weights, images) = (of_weights(config), of_images(config));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    ensure!(
        weights.saturating_add(images) <= there,
        "the run takes more than the {} MiB of memory of this machine: at least {} for the weights, and {} for \
         a batch of {} images. Choose smaller model.channels, or a smaller train.batch with more \
         train.accumulate",
        mib(there),
        mib(weights),
        mib(images),
        config.train.batch
    );
    Ok(())
}

fn of_weights(config: &Config) -> u64 {
    let values = specs(&config.network()).iter().map(|spec| spec.len() as u64).sum::<u64>();
    values.saturating_mul(OF_WEIGHT * FLOAT)
}

/// What the images of a batch leave at each resolution, on the way down and on the way up.
fn of_images(config: &Config) -> u64 {
    let (data, model) = (&config.data, &config.model);
    let pixels = (data.width * data.height) as u64;
    let level = |(level, channels): (usize, &usize)| (pixels >> (2 * level)) * *channels as u64;
    let values: u64 = model.channels.iter().enumerate().map(level).sum();
    let arrays = (2 * model.blocks as u64 + 1) * OF_BLOCK;
    values.saturating_mul(arrays * FLOAT).saturating_mul(config.train.batch as u64)
}

/// Bytes of memory and swap space; not known everywhere.
fn of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Some((kilobytes("MemTotal")? + kilobytes("SwapTotal").unwrap_or(0)) << 10)
}
