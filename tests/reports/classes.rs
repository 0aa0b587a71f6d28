//! Models with classes: labels, and guidance between what the model says with one and without.

use ddpm::error::Result;
use ddpm::model::{Classes, Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::Sampler;
use ndarray::{ArrayView4, ArrayViewMut4, Zip};

use super::models::{hiding_noise, rounding_of, samplers};

/// ORACLE of the image that is 0.1 times the label everywhere.
struct Labelled {
    config: ModelConfig,
    schedule: NoiseSchedule,
    fed: Vec<Vec<i64>>,
}

impl Labelled {
    fn new(count: Option<usize>, null: Option<i64>) -> Self {
        let classes = Some(Classes { count, null });
        let config = ModelConfig { classes, ..ModelConfig::ddpm(1, 2, 2) };
        Self { config, schedule: NoiseSchedule::ddpm(), fed: Vec::new() }
    }

    fn refusal(&self, label: Option<i64>, guidance: f64) -> String {
        let start = RunStart { label, guidance, ..RunStart::default() };
        let sampler = self.config.sampler_config(Sampler::Ddim, 5);
        Run::starting(&self.config, &sampler, start, 1).unwrap_err().to_string()
    }
}

impl Denoiser for Labelled {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        self.fed.push(labels.to_vec());
        for (i, (x, mut out)) in sample.outer_iter().zip(output.outer_iter_mut()).enumerate() {
            let c = labels[i] as f32 * 0.1;
            Zip::from(&mut out).and(&x).for_each(|out, &x| {
                *out = hiding_noise(&self.schedule, timesteps[i], x, c);
            });
        }
        Ok(())
    }
}

#[test]
fn guidance_moves_the_image_from_no_class_past_the_class() {
    // epsilon is linear in the image it hides, so u + s (c - u) hides u + s (c - u).
    for (form, config) in samplers(12) {
        for (guidance, expected) in [(0.0, 0.5), (1.0, 0.2), (2.0, -0.1), (-1.0, 0.8)] {
            let mut model = Labelled::new(Some(5), Some(5));
            let start = RunStart { seed: 3, label: Some(2), guidance, ..RunStart::default() };
            let mut run = Run::starting(&model.config, &config, start, 2).unwrap();
            while run.step(&mut model).unwrap() {}
            // Two roundings of epsilon, each of them up to |s| + |1 - s| times.
            let bound =
                3.0 * (1.0 + 2.0 * guidance.abs() as f32) * rounding_of(&model.config, &config);
            for &found in run.sample() {
                let what = format!("{} guidance {guidance}", form.name());
                assert!((found - expected).abs() <= bound, "{what}: {found}, not {expected}");
            }
            let calls = if guidance == 1.0 { run.steps() } else { 2 * run.steps() };
            assert_eq!(model.fed.len(), calls, "{}", form.name());
            assert_eq!(model.fed[0], [2, 2]);
            if guidance != 1.0 {
                assert_eq!(model.fed[1], [5, 5]);
            }
        }
    }
}

#[test]
fn labels_are_those_of_the_model() {
    for (label, fed) in [(Some(0), 0), (Some(4), 4), (Some(5), 5), (None, 5)] {
        let mut model = Labelled::new(Some(5), Some(5));
        let sampler = model.config.sampler_config(Sampler::Ddim, 1);
        let start = RunStart { label, ..RunStart::default() };
        let mut run = Run::starting(&model.config, &sampler, start, 1).unwrap();
        run.step(&mut model).unwrap();
        assert_eq!(model.fed, [[fed]], "{label:?}");
    }
    let model = Labelled::new(Some(5), Some(5));
    for label in [-1, 6, i64::MAX, i64::MIN] {
        let expected = format!("class: found {label}, expected 0 to 4");
        assert_eq!(model.refusal(Some(label), 1.0), expected);
    }
}

#[test]
fn labels_and_guidance_that_mean_nothing_are_refused() {
    let without_null = Labelled::new(Some(5), None);
    assert_eq!(without_null.refusal(None, 1.0), "class: found none, but the model needs one");
    assert!(without_null.refusal(Some(1), 2.0).starts_with("guidance: found 2, but the model has"));
    let both = Labelled::new(Some(5), Some(5));
    assert!(both.refusal(None, 2.0).starts_with("guidance: found 2 without a class"));
    for guidance in [f64::NAN, f64::INFINITY] {
        let found = both.refusal(Some(1), guidance);
        assert!(
            found.starts_with(&format!("guidance: found {guidance}, expected a finite")),
            "{found}"
        );
    }
    let mut plain = Labelled::new(None, None);
    plain.config.classes = None;
    assert_eq!(plain.refusal(Some(1), 1.0), "class: found 1, but the model has no classes");
    assert!(
        plain.refusal(None, 2.0).starts_with("guidance: found 2, but the model has no classes")
    );
}
