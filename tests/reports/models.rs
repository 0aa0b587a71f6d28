//! The models of the reports: ORACLE returns the noise that hides a fixed image c, so that a correct sampler
//! returns c. LIN is 0.5 x: at eta 0 the result is a known multiple of the initial noise. TREC is t / 1000:
//! it shows what it is fed.

use ddpm::error::Result;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding, step_table};
use ndarray::{ArrayView4, ArrayViewMut4, Zip};

use super::samplers::{Form, all_forms};

/// A model from a function of (timestep, x, index in the item); remembers the timesteps it was fed.
pub struct Model<F> {
    pub config: ModelConfig,
    pub function: F,
    pub fed: Vec<f64>,
}

impl<F: FnMut(f64, f32, usize) -> f32 + Send> Model<F> {
    pub fn new(config: ModelConfig, function: F) -> Self {
        Self { config, function, fed: Vec::new() }
    }

    pub fn run(&mut self, sampler: &SamplerConfig, seed: u64, batch: usize) -> Run {
        self.run_from(sampler, RunStart { seed, ..RunStart::default() }, batch)
    }

    pub fn run_from(&mut self, sampler: &SamplerConfig, start: RunStart, batch: usize) -> Run {
        let mut run = Run::starting(&self.config, sampler, start, batch).unwrap();
        while run.step(self).unwrap() {}
        run
    }
}

impl<F: FnMut(f64, f32, usize) -> f32 + Send> Denoiser for Model<F> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        self.fed.push(timesteps[0]);
        for ((x, mut out), &t) in sample.outer_iter().zip(output.outer_iter_mut()).zip(timesteps) {
            let mut index = 0;
            Zip::from(&mut out).and(&x).for_each(|out, &x| {
                *out = (self.function)(t, x, index);
                index += 1;
            });
        }
        Ok(())
    }
}

/// epsilon = (x - sqrt(a) c) / sqrt(1 - a), the noise that hides c in x, at a timestep.
pub fn hiding_noise(schedule: &NoiseSchedule, t: f64, x: f32, c: f32) -> f32 {
    let a = 1.0 / (1.0 + schedule.sigma_at(t).powi(2));
    ((f64::from(x) - a.sqrt() * f64::from(c)) / (1.0 - a).sqrt()) as f32
}

/// The model of `config` that knows the image `c`.
pub fn oracle(
    config: ModelConfig,
    c: Vec<f32>,
) -> Model<impl FnMut(f64, f32, usize) -> f32 + Send> {
    let schedule = config.noise_schedule().unwrap();
    Model::new(config, move |t, x, index| hiding_noise(&schedule, t, x, c[index]))
}

/// How far the oracle's image may be missed.
///
/// Rounding of epsilon to float32 (it stays below 8) moves x_0 of the last step by p_m of it. PNDM's
/// last step is made of the epsilons of the last steps, so that of each counts, with weights up to 59 / 24;
/// LCM's consistency function has a share c_skip of x, below 7e-6 from t = 19 on.
pub fn rounding_of(config: &ModelConfig, sampler: &SamplerConfig) -> f32 {
    let schedule = config.noise_schedule().unwrap();
    let table = step_table(&schedule, config.prediction_type, sampler).unwrap();
    let rows = table.rows();
    let p_m = |row: &ddpm::step::Row| row.p_m.abs() as f32;
    let last = p_m(rows.last().unwrap());
    match sampler.kind {
        Sampler::Pndm | Sampler::PndmPrk => {
            // Where the first step ends in the model's epsilon, what is lost by then is divided by the
            // spread there.
            let first = if sampler.kind == Sampler::PndmPrk && rows.len() > 3 {
                p_m(&rows[0]) / p_m(&rows[3])
            } else {
                1.0
            };
            64.0 * f32::EPSILON * rows.iter().map(p_m).fold(1.0, f32::max) * first
        }
        Sampler::Lcm => 8.0 * f32::EPSILON * (1.0 + last) + 5e-5,
        _ => 8.0 * f32::EPSILON * (1.0 + last),
    }
}

/// Every form of every sampler that makes an image, with so many steps, without a clip.
pub fn samplers(steps: usize) -> impl Iterator<Item = (Form, SamplerConfig)> {
    all_forms()
        .into_iter()
        .filter(|form| !form.kind.is_inverse())
        .map(move |form| (form, SamplerConfig { steps, ..form.config() }))
}

pub fn clipped(config: SamplerConfig, range: f64) -> SamplerConfig {
    SamplerConfig { thresholding: Thresholding::Clip(range), ..config }
}
