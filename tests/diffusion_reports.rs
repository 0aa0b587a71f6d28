//! Faults reported of comparable samplers, each as a small model with an exact answer.
//!
//! ORACLE returns the noise that hides a fixed image c: a correct sampler returns c. LIN is 0.5 x: at
//! eta 0 the result is a known multiple of the initial noise. TREC is t / 1000: it shows what it is fed.

use ddpm::error::{ErrorKind, Result};
use ddpm::image::{Color, to_rgba8};
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::prediction::PredictionType;
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig, step_table};
use ddpm::step::{self, Slots};
use ddpm::timesteps::TimestepSpacing;
use ndarray::{ArrayView4, ArrayViewMut4, Zip};

const DDIM: Sampler = Sampler::Ddim { eta: 0.0 };
const DDIM_ETA_1: Sampler = Sampler::Ddim { eta: 1.0 };

/// A model from a function of (timestep, x, index in the item); remembers the timesteps it was fed.
struct Model<F> {
    config: ModelConfig,
    function: F,
    fed: Vec<f64>,
}

impl<F: FnMut(f64, f32, usize) -> f32 + Send> Model<F> {
    fn new(config: ModelConfig, function: F) -> Self {
        Self { config, function, fed: Vec::new() }
    }

    fn run(&mut self, sampler: &SamplerConfig, seed: u64, batch: usize) -> Run {
        let mut run = Run::new(&self.config, sampler, seed, batch).unwrap();
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

/// The model of `config` that knows the image `c`: epsilon = (x - sqrt(a) c) / sqrt(1 - a).
fn oracle(config: ModelConfig, c: Vec<f32>) -> Model<impl FnMut(f64, f32, usize) -> f32 + Send> {
    let alphas = config.noise_schedule().unwrap().alphas_cumprod().to_vec();
    Model::new(config, move |t, x, index| {
        let a = alphas[t as usize];
        ((f64::from(x) - a.sqrt() * f64::from(c[index])) / (1.0 - a).sqrt()) as f32
    })
}

/// How far rounding of epsilon to float32 (it stays below 8) may move x_0 in the last step.
fn rounding_of(config: &ModelConfig, sampler: &SamplerConfig) -> f32 {
    let table = step_table(&config.noise_schedule().unwrap(), sampler).unwrap();
    8.0 * f32::EPSILON * (1.0 + table.rows().last().unwrap().p_m.abs() as f32)
}

fn unclipped(config: ModelConfig) -> ModelConfig {
    ModelConfig { clip_sample_range: None, ..config }
}

#[test]
fn leading_timesteps_with_offset_1_stay_in_range() {
    let counts = [3, 9, 27, 36, 37, 251, 1000].into_iter().chain(101..=111);
    for steps in counts {
        let spacing = TimestepSpacing::Leading;
        let config = SamplerConfig { steps, spacing, steps_offset: 1, ..SamplerConfig::default() };
        let table = step_table(&NoiseSchedule::ddpm(), &config).unwrap();
        assert_eq!(table.rows().len(), steps);
        assert!(table.rows().iter().all(|row| (0.0..=999.0).contains(&row.timestep)), "{steps}");
    }
}

#[test]
fn model_is_called_once_per_step_with_the_tables_timesteps() {
    for spacing in [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace]
    {
        for steps in [1, 7, 53, 999, 1000] {
            let mut trec = Model::new(ModelConfig::ddpm(1, 1, 1), |t, _, _| t as f32 / 1000.0);
            let config = SamplerConfig { spacing, ..trec.config.sampler_config(DDIM, steps) };
            let run = trec.run(&config, 0, 1);
            assert_eq!((trec.fed.len(), run.step_index(), run.timestep()), (steps, steps, None));
            let table = step_table(&NoiseSchedule::ddpm(), &config).unwrap();
            let expected: Vec<f64> = table.rows().iter().map(|row| row.timestep).collect();
            assert_eq!(trec.fed, expected, "{spacing:?} {steps}");
        }
    }
}

#[test]
fn step_after_the_last_calls_nothing_and_changes_nothing() {
    let mut trec = Model::new(ModelConfig::ddpm(1, 2, 2), |t, _, _| t as f32 / 1000.0);
    let config = trec.config.sampler_config(Sampler::Ddpm, 7);
    let mut run = trec.run(&config, 0, 1);
    let done = run.sample().to_vec();
    assert!(!run.step(&mut trec).unwrap());
    assert_eq!((trec.fed.len(), run.sample()), (7, &done[..]));
}

#[test]
fn step_counts_out_of_range_are_refused() {
    let model = ModelConfig::ddpm(1, 1, 1);
    for steps in [0, 1001, usize::MAX] {
        let error = Run::new(&model, &model.sampler_config(DDIM, steps), 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(&format!("steps: found {steps}, expected 1 to 1000")));
    }
}

#[test]
fn linear_model_scales_the_noise_by_the_product_over_the_list() {
    // Written out from the rules, not taken from the library.
    let trailing: Vec<usize> =
        (0..13).map(|i| (1000.0 - f64::from(i) * 1000.0 / 13.0f64).round() as usize - 1).collect();
    let linspace: Vec<usize> = (0..10).map(|i| 999 - 111 * i).collect();
    let cases = [(TimestepSpacing::Trailing, trailing), (TimestepSpacing::Linspace, linspace)];
    let beta = |t: usize| 1e-4 + (0.02 - 1e-4) * t as f64 / 999.0;
    let alpha_bar = |t: usize| (0..=t).map(|t| 1.0 - beta(t)).product::<f64>();
    for (spacing, list) in cases {
        let mut factor = 1.0;
        for (index, &t) in list.iter().enumerate() {
            let a = alpha_bar(t);
            let a_prev = list.get(index + 1).map_or(1.0, |&t| alpha_bar(t));
            let x0 = (1.0 - (1.0 - a).sqrt() * 0.5) / a.sqrt();
            factor *= a_prev.sqrt() * x0 + (1.0 - a_prev).sqrt() * 0.5;
        }
        let mut lin = Model::new(unclipped(ModelConfig::ddpm(3, 8, 8)), |_, x, _| 0.5 * x);
        let sampler = SamplerConfig { spacing, ..lin.config.sampler_config(DDIM, list.len()) };
        let start = Run::new(&lin.config, &sampler, 5, 1).unwrap().sample().to_vec();
        let run = lin.run(&sampler, 5, 1);
        for (&found, &noise) in run.sample().iter().zip(&start) {
            let expected = factor * f64::from(noise);
            // Every step rounds the sample once: half a unit of 2^-23 relative, each.
            let bound = list.len() as f64 * f64::from(f32::EPSILON) * expected.abs();
            assert!(
                (f64::from(found) - expected).abs() <= bound,
                "{spacing:?}: {found} {expected}"
            );
        }
    }
}

#[test]
fn oracle_is_returned_without_residual_noise() {
    let c: Vec<f32> = (0..3 * 5 * 7).map(|i| (i as f32 * 0.37).sin()).collect();
    for kind in [Sampler::Ddpm, DDIM, DDIM_ETA_1] {
        for steps in [1, 2, 50] {
            for clip in [None, Some(1.0)] {
                let config = ModelConfig { clip_sample_range: clip, ..ModelConfig::ddpm(3, 5, 7) };
                let mut model = oracle(config, c.clone());
                let sampler = model.config.sampler_config(kind, steps);
                let run = model.run(&sampler, 9, 1);
                let bound = rounding_of(&model.config, &sampler);
                for (&found, &expected) in run.sample().iter().zip(&c) {
                    assert!(
                        (found - expected).abs() <= bound,
                        "{kind:?} {steps}: {found} {expected}"
                    );
                }
                assert_eq!(run.sample(), run.x0(), "{kind:?} {steps}");
            }
        }
    }
}

#[test]
fn oracle_beyond_the_range_is_reached_without_clip_and_held_with_it() {
    let c = vec![4.0, -4.0, 4.0, -4.0];
    for kind in [Sampler::Ddpm, DDIM, DDIM_ETA_1] {
        for clip in [None, Some(1.0), Some(2.5)] {
            let config = ModelConfig { clip_sample_range: clip, ..ModelConfig::ddpm(1, 2, 2) };
            let mut model = oracle(config, c.clone());
            let sampler = model.config.sampler_config(kind, 50);
            let run = model.run(&sampler, 3, 1);
            let bound = rounding_of(&model.config, &sampler);
            for (&found, &value) in run.sample().iter().zip(&c) {
                let expected = value.signum() * clip.unwrap_or(4.0) as f32;
                assert!((found - expected).abs() <= bound, "{kind:?} {clip:?}: {found} {expected}");
            }
        }
    }
}

#[test]
fn cosine_with_few_trailing_steps_stays_finite_and_returns_the_oracle() {
    for kind in [Sampler::Ddpm, DDIM, DDIM_ETA_1] {
        for steps in [4, 10] {
            let mut config = ModelConfig::ddpm(1, 4, 4);
            config.beta_schedule = BetaSchedule::SquaredcosCapV2;
            let mut model = oracle(config, vec![0.25; 16]);
            let sampler = model.config.sampler_config(kind, steps);
            let run = model.run(&sampler, 1, 1);
            let bound = rounding_of(&model.config, &sampler);
            assert!(run.sample().iter().all(|v| (v - 0.25).abs() <= bound), "{kind:?} {steps}");
        }
    }
}

#[test]
fn zero_snr_with_an_epsilon_model_is_refused() {
    let mut model = ModelConfig { rescale_betas_zero_snr: true, ..ModelConfig::ddpm(3, 8, 8) };
    let error = Run::new(&model, &model.sampler_config(DDIM, 10), 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("prediction_type: found epsilon with alpha_bar 0"));
    model.prediction_type = PredictionType::VPrediction;
    Run::new(&model, &model.sampler_config(DDIM, 10), 0, 1).unwrap();
}

#[test]
fn sampler_that_reads_the_output_otherwise_than_the_model_is_refused() {
    let model =
        ModelConfig { prediction_type: PredictionType::Sample, ..ModelConfig::ddpm(3, 8, 8) };
    let error = Run::new(&model, &SamplerConfig::default(), 0, 1).unwrap_err();
    assert!(error.to_string().contains("found epsilon, expected sample"), "{error}");
}

#[test]
fn overflowing_model_is_named_with_step_and_timestep() {
    for value in [f32::INFINITY, f32::NAN] {
        let overflow =
            move |t: f64, x: f32, index: usize| if t < 500.0 && index == 3 { value } else { x };
        let mut model = Model::new(ModelConfig::ddpm(1, 2, 2), overflow);
        let sampler = model.config.sampler_config(Sampler::Ddpm, 50);
        let mut run = Run::new(&model.config, &sampler, 0, 1).unwrap();
        let error = loop {
            match run.step(&mut model) {
                Ok(more) => assert!(more, "the overflow went unseen"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::NonFinite);
        // Trailing: 999, 979, ...; the 26th is the first below 500.
        assert_eq!(error.to_string(), "non-finite model output at step 26, t = 499");
        assert_eq!(run.step_index(), 25);
        assert!(run.sample().iter().all(|v| v.is_finite()));
    }
}

#[test]
fn sample_that_overflows_is_an_error_even_if_the_output_is_finite() {
    let mut model = Model::new(unclipped(ModelConfig::ddpm(1, 1, 1)), |_, _, _| f32::MAX);
    let sampler = model.config.sampler_config(DDIM, 1);
    let mut run = Run::new(&model.config, &sampler, 0, 1).unwrap();
    let error = run.step(&mut model).unwrap_err();
    assert_eq!(error.to_string(), "non-finite sample at step 1, t = 999");
}

#[test]
fn batch_item_is_the_run_of_its_own_seed() {
    for kind in [Sampler::Ddpm, DDIM] {
        let mut model = Model::new(ModelConfig::ddpm(3, 7, 5), |_, x, _| 0.9 * x);
        let sampler = model.config.sampler_config(kind, 10);
        // The second seed wraps round inside the batch.
        for seed in [7, u64::MAX - 1] {
            let together = model.run(&sampler, seed, 4);
            let items: Vec<&[f32]> = together.sample().chunks(together.item_len()).collect();
            assert_eq!((together.shape(), items.len()), ([4, 3, 7, 5], 4));
            for (index, item) in items.iter().enumerate() {
                let alone = model.run(&sampler, seed.wrapping_add(index as u64), 1);
                assert_eq!(alone.sample(), *item, "{kind:?} item {index}");
            }
        }
    }
}

#[test]
fn noise_is_a_function_of_seed_purpose_and_step_alone() {
    let mut model = Model::new(ModelConfig::ddpm(1, 3, 3), |_, x, _| 0.9 * x);
    let sampler = model.config.sampler_config(Sampler::Ddpm, 4);
    let run = model.run(&sampler, 31, 1);

    let noise = |purpose, row| {
        let mut noise = [0f32; 9];
        fill_standard_normal(31, purpose, row, &mut noise);
        noise
    };
    let mut sample = noise(Purpose::InitialNoise, 0);
    let table = step_table(&NoiseSchedule::ddpm(), &sampler).unwrap();
    for (k, row) in table.rows().iter().enumerate() {
        let model_output = sample.map(|x| 0.9 * x);
        let slots = Slots {
            sample: &mut sample,
            model_output: &model_output,
            noise: &noise(Purpose::StepNoise, k as u32),
            pred_original_sample: &mut [0f32; 9],
        };
        step::apply(row, slots).unwrap();
    }
    assert_eq!(run.sample(), sample);
}

#[test]
fn seeds_are_distinct_and_a_reset_repeats_bit_for_bit() {
    let mut model = Model::new(ModelConfig::ddpm(3, 4, 4), |_, x, _| 0.9 * x);
    let sampler = model.config.sampler_config(Sampler::Ddpm, 10);
    let seeds = [0, 1, (1 << 32) + 1, u64::MAX];
    let images: Vec<Vec<f32>> =
        seeds.iter().map(|&seed| model.run(&sampler, seed, 1).sample().to_vec()).collect();
    for (i, image) in images.iter().enumerate() {
        assert!(images[..i].iter().all(|other| other != image), "seed {}", seeds[i]);
    }
    let mut run = Run::new(&model.config, &sampler, 99, 1).unwrap();
    for _ in 0..3 {
        run.step(&mut model).unwrap();
    }
    for (seed, image) in seeds.into_iter().zip(&images) {
        run.reset(seed);
        assert_eq!((run.seed(), run.step_index()), (seed, 0));
        assert!(run.x0().iter().all(|&v| v == 0.0));
        while run.step(&mut model).unwrap() {}
        assert_eq!(run.sample(), image);
    }
}

#[test]
fn model_of_another_shape_is_refused_and_impossible_sizes_too() {
    let model = ModelConfig::ddpm(3, 8, 8);
    let sampler = model.sampler_config(DDIM, 5);
    let mut run = Run::new(&model, &sampler, 0, 1).unwrap();
    let mut other = Model::new(ModelConfig::ddpm(3, 8, 16), |_, x, _| x);
    let error = run.step(&mut other).unwrap_err();
    assert!(
        error.to_string().contains("found samples of [3, 8, 16], expected [3, 8, 8]"),
        "{error}"
    );
    assert!(other.fed.is_empty());

    let error = Run::new(&model, &sampler, 0, 0).unwrap_err();
    assert!(error.to_string().starts_with("sample shape: found [0, 3, 8, 8]"), "{error}");
    let huge = ModelConfig::ddpm(3, 0x7fff_ffff, 0x7fff_ffff);
    let error = Run::new(&huge, &sampler, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    // Fits the address space as a number, not as memory.
    let large = ModelConfig::ddpm(1, 0x7fff_ffff, 0x3fff_ffff);
    let error = Run::new(&large, &sampler, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
}

#[test]
fn ramps_come_out_of_a_run_as_the_exact_pixels() {
    for (width, height) in [(28, 28), (33, 33), (1, 1), (64, 96)] {
        let value = |byte: usize| byte as f32 / 127.5 - 1.0;
        // Red is x, green is y, blue is 255.
        let mut c = Vec::new();
        for channel in 0..3 {
            for y in 0..height {
                c.extend((0..width).map(|x| value([x, y, 255][channel])));
            }
        }
        let mut model = oracle(ModelConfig::ddpm(3, height, width), c);
        let sampler = model.config.sampler_config(Sampler::Ddpm, 20);
        let run = model.run(&sampler, 2, 1);
        let mut pixels = vec![0; width * height * 4];
        to_rgba8(run.sample(), Color::Rgb, height, width, &mut pixels, width * 4).unwrap();
        for (index, pixel) in pixels.chunks(4).enumerate() {
            let expected = [index % width, index / width, 255, 255].map(|byte| byte as u8);
            assert_eq!(pixel, expected, "{width}x{height} pixel {index}");
        }
    }
}
