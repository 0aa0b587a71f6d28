//! The kernel fed with recorded rows: against what the reference made of them, and against the papers'
//! formulas in float64.

use std::collections::BTreeSet;

use ddpm::sampler::{Sampler, SigmaSpacing, StepTable};
use ddpm::step::{self, Memory, Slots};

use crate::trajectory::{Trajectory, golden_path};
use crate::{CASES, Case, distance, papers, widen};

/// The reference is float32; against float64 formulas it is off by up to 8e-5 at small t, where
/// 1 - alpha_bar cancels (see README.md).
const REFERENCE_TOLERANCE: f64 = 1e-4;

/// The kernel rounds once to float32; samples stay below 8, where half a unit is 2.4e-7. What it
/// remembers and carries is rounded too.
const FORMULA_TOLERANCE: f64 = 1e-6;

/// F-PNDM solves for a step's start from the sample in its middle, here the recorded one, which is off
/// by up to 1e-6: twice that.
const SOLVED_START_TOLERANCE: f64 = 3e-6;

#[test]
fn every_file_has_a_case_and_every_sampler_a_file() {
    let files: BTreeSet<String> = std::fs::read_dir(golden_path("trajectories"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let names: BTreeSet<String> = CASES.iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(files, names);
    let kinds: Vec<Sampler> =
        CASES.iter().map(|case| Trajectory::load(case.name).config.kind).collect();
    for sampler in Sampler::ALL {
        assert!(kinds.contains(&sampler), "{sampler}");
    }
}

#[test]
fn timesteps_and_noise_levels_are_the_recorded_ones() {
    for Case { name, alphas, .. } in CASES {
        let golden = Trajectory::load(name);
        let table = golden.table();
        let recorded = golden.f64("timesteps");
        assert_eq!(table.rows().len(), recorded.len(), "{name}");
        for (row, &t) in table.rows().iter().zip(&recorded) {
            let bound = match golden.config.sigmas {
                _ if t.fract() == 0.0 => 0.0,
                SigmaSpacing::Timesteps => FRACTION_TOLERANCE,
                _ => TIMESTEP_OF_SIGMA_TOLERANCE,
            };
            assert!((row.timestep - t).abs() <= bound, "{name}: {} {t}", row.timestep);
        }
        let recorded = golden.f64("alphas_cumprod");
        assert_eq!(recorded.len(), golden.schedule.num_train_timesteps(), "{name}");
        for (t, (&a, &b)) in golden.schedule.alphas_cumprod().iter().zip(&recorded).enumerate() {
            assert!((a - b).abs() <= alphas * b, "{name} t = {t}: {a} {b}");
        }
        if golden.has("sigmas") {
            let recorded = golden.f64("sigmas");
            for (row, &sigma) in table.rows().iter().zip(&recorded) {
                let found = ((1.0 - row.alpha_cumprod) / row.alpha_cumprod).sqrt();
                let off = (found - sigma).abs() / sigma;
                assert!(off < SIGMA_TOLERANCE, "{name} t = {}: {found} {sigma}", row.timestep);
            }
        }
    }
}

/// A fraction near 1000 in float32.
const FRACTION_TOLERANCE: f64 = 1e-4;

/// 1 - alpha_bar in float32 has four digits at t = 0, where it is 1e-4.
const SIGMA_TOLERANCE: f64 = 2e-4;

/// A spread of sigmas has that one at its end, which moves the timesteps of all others.
const TIMESTEP_OF_SIGMA_TOLERANCE: f64 = 1e-2;

/// Rows of the library over recorded samples, each row's from the file, with one memory.
struct Recorded<'a> {
    golden: &'a Trajectory,
    table: StepTable,
    memory: Memory,
}

impl<'a> Recorded<'a> {
    fn new(golden: &'a Trajectory, table: StepTable) -> Self {
        let memory = Memory::new(table.rows(), golden.x(golden.recorded_rows()[0]).len()).unwrap();
        Self { golden, table, memory }
    }

    /// (next x, x_0) of row k.
    fn step(&mut self, k: usize) -> [Vec<f32>; 2] {
        let mut sample = self.golden.x(k);
        let mut x0 = vec![0.0; sample.len()];
        let slots = Slots {
            sample: &mut sample,
            model_output: &self.golden.model_output(k),
            noise: &self.golden.noise(k),
            pred_original_sample: &mut x0,
            memory: &mut self.memory,
        };
        step::apply(&self.table.rows()[k], slots).unwrap();
        [sample, x0]
    }
}

#[test]
fn kernel_agrees_with_the_reference() {
    for Case { name, .. } in CASES {
        let golden = Trajectory::load(name);
        let mut run = Recorded::new(&golden, golden.table());
        let (mut prev_off, mut x0_off) = (0f64, 0f64);
        for k in golden.recorded_rows() {
            let [prev, x0] = run.step(k);
            prev_off = prev_off.max(distance(&prev, &widen(&golden.prev(k))));
            // LCM's was recorded after its boundary scalings, which move it by 4e-8 at these timesteps.
            if let Some(recorded) = golden.x0(k) {
                x0_off = x0_off.max(distance(&x0, &widen(&recorded)));
            }
        }
        println!("{name:26} prev {prev_off:.1e}, x0 {x0_off:.1e}");
        assert!(prev_off < REFERENCE_TOLERANCE, "{name}: prev is off by {prev_off}");
        assert!(x0_off < REFERENCE_TOLERANCE, "{name}: x0 is off by {x0_off}");
    }
}

#[test]
fn kernel_agrees_with_the_papers() {
    for Case { name, .. } in CASES {
        let golden = Trajectory::load(name);
        let table = golden.table_of(&papers::first_order(&golden.config));
        let mut run = Recorded::new(&golden, table);
        let mut paper = papers::Run::new(&golden);
        let mut worst = [0f64; 2];
        for k in golden.recorded_rows() {
            let found = run.step(k);
            let [x, m, noise] = [golden.x(k), golden.model_output(k), golden.noise(k)];
            let expected = paper.step(k, &widen(&x), &widen(&m), &widen(&noise));
            for i in 0..2 {
                worst[i] = worst[i].max(distance(&found[i], &expected[i]));
            }
        }
        let [prev, x0] = worst;
        println!("{name:26} formulas: prev {prev:.1e}, x0 {x0:.1e}");
        let is_solved = golden.config.kind == Sampler::PndmPrk;
        let prev_tolerance = if is_solved { SOLVED_START_TOLERANCE } else { FORMULA_TOLERANCE };
        assert!(prev < prev_tolerance, "{name}: prev is off the formulas by {prev}");
        assert!(x0 < FORMULA_TOLERANCE, "{name}: x0 is off the formulas by {x0}");
    }
}
