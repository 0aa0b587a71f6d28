//! Every sampler in each of its forms, and whatever else a run can be, with a small model that tells
//! timesteps, classes and elements apart.

use std::sync::Arc;

use ddpm::error::Result;
use ddpm::model::{Classes, Denoiser, ModelConfig};
use ddpm::run::{Branch, Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, SigmaSpacing, Thresholding, VarianceType};
use ndarray::{ArrayView4, ArrayViewMut4, Axis};

use super::samplers::{Form, all_forms};

/// Not linear in x, and different for each timestep and label.
pub struct Wavy(pub ModelConfig);

impl Denoiser for Wavy {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        for (item, (x, mut out)) in sample.outer_iter().zip(output.outer_iter_mut()).enumerate() {
            let phase = timesteps[item] as f32 / 100.0;
            let label = labels.get(item).map_or(0.0, |&label| 0.2 * label as f32);
            // The second half of the channels is a variance, from -1 to 1.
            let (mut mean, variance) = out.view_mut().split_at(Axis(0), self.0.channels);
            mean.zip_mut_with(&x, |out, &x| {
                *out = 0.6 * x + 0.3 * (3.0 * x + phase).sin() + label;
            });
            if self.0.gives_variance {
                let mut variance = variance;
                variance.zip_mut_with(&x, |out, &x| *out = (x + phase).sin());
            }
        }
        Ok(())
    }
}

/// What a run is made of.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub model: ModelConfig,
    pub sampler: SamplerConfig,
    pub start: RunStart,
    pub batch: usize,
}

impl Case {
    pub fn run(&self) -> Run {
        Run::starting(&self.model, &self.sampler, self.start.clone(), self.batch).unwrap()
    }

    pub fn denoiser(&self) -> Wavy {
        Wavy(self.model.clone())
    }

    /// What the straight run shows at each step, the start included.
    pub fn straight(&self) -> Vec<Shown> {
        let (mut run, mut denoiser) = (self.run(), self.denoiser());
        let mut shown = vec![Shown::of(&run)];
        for _ in 0..run.steps() {
            run.step(&mut denoiser).unwrap();
            shown.push(Shown::of(&run));
        }
        shown
    }
}

/// The samples of a run, by their bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    sample: Vec<u32>,
    x0: Vec<u32>,
}

impl Shown {
    pub fn of(run: &Run) -> Self {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        Self { sample: bits(run.sample()), x0: bits(run.x0()) }
    }
}

/// Steps the run to `target` and compares all it shows on the way.
pub fn step_and_compare(run: &mut Run, denoiser: &mut Wavy, target: usize, straight: &[Shown]) {
    let from = run.step_index();
    while run.step_index() < target {
        run.step(denoiser).unwrap();
        let step = run.step_index();
        assert_eq!(Shown::of(run), straight[step], "step {step} from {from}");
    }
}

pub fn small() -> ModelConfig {
    ModelConfig::ddpm(1, 3, 5)
}

pub fn picture() -> Arc<[f32]> {
    (0..15).map(|i| (i as f32).sin()).collect()
}

/// A branch with new noise for the steps, and one that renews the sample's too.
pub fn two_branches() -> Vec<Branch> {
    vec![
        Branch { step: 2, seed: 90, variation: 0.0 },
        Branch { step: 4, seed: 91, variation: 0.25 },
    ]
}

/// All forms of all samplers in runs of 8 steps, and all else that a run can have.
pub fn cases() -> Vec<Case> {
    let start = || RunStart { seed: 5, ..RunStart::default() };
    let case = |name: String, sampler: SamplerConfig, start: RunStart| Case {
        name,
        model: small(),
        sampler: SamplerConfig { steps: 8, ..sampler },
        start,
        batch: 1,
    };
    let form = |kind| Form::new(kind).config();
    let mut cases: Vec<Case> = all_forms()
        .into_iter()
        .map(|form| {
            let image = form.kind.is_inverse().then(picture);
            case(form.name(), form.config(), RunStart { image, ..start() })
        })
        .collect();
    for kind in [Sampler::Ddpm, Sampler::Unipc, Sampler::Heun, Sampler::PndmPrk, Sampler::Deis] {
        let start = RunStart { branches: two_branches(), ..start() };
        cases.push(case(format!("{kind} with branches"), form(kind), start));
    }
    let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 1.5 };
    for kind in [Sampler::Ddpm, Sampler::Dpmpp] {
        let sampler = SamplerConfig { thresholding: dynamic, ..form(kind) };
        cases.push(case(format!("{kind}, dynamic thresholding"), sampler, start()));
    }
    for kind in [Sampler::Ddim, Sampler::DpmppSde] {
        let sampler = SamplerConfig { strength: 0.8, ..form(kind) };
        let branches = vec![Branch { step: 0, seed: 3, variation: 0.5 }];
        let start = RunStart { image: Some(picture()), branches, ..start() };
        cases.push(case(format!("{kind} from a picture"), sampler, start));
    }
    let sampler = SamplerConfig { sigmas: SigmaSpacing::Karras, ..form(Sampler::Euler) };
    cases.push(case("euler, Karras".to_owned(), sampler, start()));
    for variance_type in [VarianceType::Learned, VarianceType::LearnedRange] {
        let sampler = SamplerConfig { variance_type, ..form(Sampler::Ddpm) };
        let mut case = case(format!("ddpm, {}", variance_type.name()), sampler, start());
        case.model.gives_variance = true;
        cases.push(case);
    }
    for kind in [Sampler::Ddpm, Sampler::Unipc] {
        let start = RunStart { label: Some(1), guidance: 2.5, ..start() };
        let start = RunStart { branches: two_branches(), ..start };
        let mut case = case(format!("{kind}, guided, two items"), form(kind), start);
        case.model.classes = Some(Classes { count: Some(2), null: Some(2) });
        case.batch = 2;
        cases.push(case);
    }
    cases
}

/// Numbers in an order that is none.
pub fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        let index = i as u64;
        let other =
            ddpm::rng::uniform_below(seed, ddpm::rng::Purpose::Shuffle, 0, index, index + 1);
        order.swap(i, other as usize);
    }
    order
}
