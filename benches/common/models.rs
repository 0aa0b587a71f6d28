//! The models that the figures are about: the one that ships, and one of the size that people train.

use std::fs;
use std::path::{Path, PathBuf};

use ddpm::error::Result;

use super::fault;
use super::graph::Graph;

/// 16 x 16 pixels, 1.4 million weights, as it ships.
pub fn portraits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx")
}

/// 32 x 32 pixels, 35.7 million random weights: the network that the DDPM paper has for CIFAR-10 (Ho
/// et al. 2020, appendix B). Made on first use, in the target folder.
pub fn cifar() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join("ddpm_cifar_random.onnx");
    if !path.exists() {
        let made = folder.join(format!("ddpm_cifar_random.{}", std::process::id()));
        fs::create_dir_all(folder).map_err(fault)?;
        fs::write(&made, cifar_bytes()).map_err(fault)?;
        fs::rename(&made, &path).map_err(fault)?;
    }
    Ok(path)
}

/// Channels at 32 x 32, 16 x 16, 8 x 8 and 4 x 4.
const CHANNELS: [usize; 4] = [128, 256, 256, 256];
const BLOCKS: usize = 2;
/// The resolution with self-attention, as an index of `CHANNELS`.
const ATTENTION: usize = 1;
const TIME: usize = 512;

fn cifar_bytes() -> Vec<u8> {
    let mut g = Graph::new([3, 32, 32]);
    let time = g.sinusoids(CHANNELS[0]);
    let time = g.linear(&time, CHANNELS[0], TIME);
    let time = g.silu(&time);
    let time = g.linear(&time, TIME, TIME);
    let time = g.silu(&time);

    let mut width = CHANNELS[0];
    let sample = g.sample();
    let mut h = g.conv(&sample, 3, width, 3, 1);
    let mut skips = vec![(h.clone(), width)];
    for (level, &out) in CHANNELS.iter().enumerate() {
        for _ in 0..BLOCKS {
            h = residual(&mut g, &h, &time, width, out);
            width = out;
            if level == ATTENTION {
                h = attention(&mut g, &h, width);
            }
            skips.push((h.clone(), width));
        }
        if level + 1 < CHANNELS.len() {
            h = g.conv(&h, width, width, 3, 2);
            skips.push((h.clone(), width));
        }
    }
    h = residual(&mut g, &h, &time, width, width);
    h = attention(&mut g, &h, width);
    h = residual(&mut g, &h, &time, width, width);
    for (level, &out) in CHANNELS.iter().enumerate().rev() {
        for _ in 0..=BLOCKS {
            if let Some((skip, more)) = skips.pop() {
                h = g.concat(&h, &skip);
                width += more;
            }
            h = residual(&mut g, &h, &time, width, out);
            width = out;
            if level == ATTENTION {
                h = attention(&mut g, &h, width);
            }
        }
        if level > 0 {
            h = g.enlarge(&h);
            h = g.conv(&h, width, width, 3, 1);
        }
    }
    let h = g.norm(&h, width);
    let h = g.silu_map(&h);
    let h = g.conv(&h, width, 3, 3, 1);
    g.finish(&h)
}

type Map = super::graph::Map;

fn residual(g: &mut Graph, x: &Map, time: &str, from: usize, to: usize) -> Map {
    let shift = g.linear(time, TIME, to);
    let h = g.norm(x, from);
    let h = g.silu_map(&h);
    let h = g.conv(&h, from, to, 3, 1);
    let h = g.shift(&h, &shift, to);
    let h = g.norm(&h, to);
    let h = g.silu_map(&h);
    let h = g.conv(&h, to, to, 3, 1);
    let x = if from == to { x.clone() } else { g.conv(x, from, to, 1, 1) };
    g.add(&h, &x)
}

/// One head over all pixels.
fn attention(g: &mut Graph, x: &Map, channels: usize) -> Map {
    let h = g.norm(x, channels);
    let qkv = g.conv(&h, channels, 3 * channels, 1, 1);
    let h = g.attend(&qkv, channels);
    let h = g.conv(&h, channels, channels, 1, 1);
    g.add(&h, x)
}
