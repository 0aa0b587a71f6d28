//! A figure of the forward process: one picture under more and more noise.

use std::path::Path;

use anyhow::{Context, Result};
use ddpm::image::{from_byte, to_byte};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::rng::{self, Purpose};

use crate::canvas::{BLACK, Canvas, Rgb};
use crate::data;

/// Where the figure looks, in thousandths of the timesteps: the first, the last and four between.
const PLACES: [usize; 6] = [0, 200, 400, 600, 800, 999];
/// Pictures with a longer side are made smaller.
const LONGEST: u32 = 512;
/// Pictures are enlarged by whole factors up to about this width.
const SHOWN: usize = 128;

/// Writes q(x_t|x_0) of the picture at `image` (DDPM eq. 4) for six t from 0 to the last side by side,
/// each with its t above; all with the same noise. Returns the timesteps.
pub fn figure(image: &Path, schedule: &NoiseSchedule, seed: u64, out: &Path) -> Result<Vec<usize>> {
    let picture =
        data::read_picture(image, LONGEST).with_context(|| format!("{}", image.display()))?;
    let x_0: Vec<f32> = picture.as_raw().iter().map(|&byte| from_byte(byte)).collect();
    let mut noise = vec![0.0; x_0.len()];
    rng::fill_standard_normal(seed, Purpose::InitialNoise, 0, &mut noise);

    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let scale = (SHOWN / width).max(1);
    let (gap, head) = (8, 24);
    let (cell_w, cell_h) = (width * scale + gap, height * scale);
    let mut canvas = Canvas::new(PLACES.len() * cell_w + gap, head + cell_h + gap);
    let last = schedule.num_train_timesteps() - 1;
    let timesteps: Vec<usize> = PLACES.iter().map(|place| place * last / 999).collect();
    let mut x_t = vec![0.0; x_0.len()];
    for (i, &t) in timesteps.iter().enumerate() {
        schedule.add_noise(&x_0, &noise, t, &mut x_t)?;
        let pixels: Vec<Rgb> =
            x_t.as_chunks::<3>().0.iter().map(|pixel| pixel.map(to_byte)).collect();
        let left = gap + i * cell_w;
        canvas.text(left as i64, 7, &t.to_string(), 2, BLACK);
        canvas.picture(left, head, &pixels, width, scale);
    }
    canvas.write(out)?;
    Ok(timesteps)
}
