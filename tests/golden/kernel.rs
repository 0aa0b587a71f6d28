//! The kernel fed with recorded steps: against what the reference made of them, and against the
//! papers' formulas in float64.

use ddpm::sampler::step_table;
use ddpm::step::{self, Slots};

use crate::trajectory::Trajectory;
use crate::{CASES, Case, distance, papers, widen};

/// The reference is float32; against float64 formulas it is off by up to 8e-5 at small t, where
/// 1 - alpha_bar cancels (see README.md).
const REFERENCE_TOLERANCE: f64 = 1e-4;

/// The kernel rounds once to float32; samples stay below 8, where half a unit is 2.4e-7.
const FORMULA_TOLERANCE: f64 = 1e-6;

#[test]
fn timesteps_and_alphas_are_the_recorded_ones() {
    for Case { name, alphas, .. } in CASES {
        let golden = Trajectory::load(name);
        let table = step_table(&golden.schedule, &golden.config).unwrap();
        let timesteps: Vec<f64> = table.rows().iter().map(|row| row.timestep).collect();
        assert_eq!(timesteps, golden.f64("timesteps"), "{name}");
        let recorded = golden.f64("alphas_cumprod");
        assert_eq!(recorded.len(), golden.schedule.num_train_timesteps(), "{name}");
        for (t, (&a, &b)) in golden.schedule.alphas_cumprod().iter().zip(&recorded).enumerate() {
            assert!((a - b).abs() <= alphas * b, "{name} t = {t}: {a} {b}");
        }
    }
}

#[test]
fn kernel_agrees_with_the_reference_and_with_the_papers() {
    for Case { name, .. } in CASES {
        let golden = Trajectory::load(name);
        let table = step_table(&golden.schedule, &golden.config).unwrap();
        let alphas_cumprod = papers::alphas_cumprod(name);
        let steps = golden.recorded_steps();
        assert!(steps.len() >= 9, "{name}: {} recorded steps", steps.len());
        let mut worst = [0f64; 4];
        for k in steps {
            let read = |what: &str| golden.f32(&format!("{what}.{k}"));
            let (x, model_output, noise) = (read("x"), read("model_output"), golden.noise(k));
            let (mut prev, mut x0) = (x.clone(), vec![0.0; x.len()]);
            let slots = Slots {
                sample: &mut prev,
                model_output: &model_output,
                noise: &noise,
                pred_original_sample: &mut x0,
            };
            step::apply(&table.rows()[k], slots).unwrap();
            let (paper_prev, paper_x0) = papers::step(
                &golden.config,
                &alphas_cumprod,
                &golden.f64("timesteps"),
                k,
                [&widen(&x), &widen(&model_output), &widen(&noise)],
            );
            let distances = [
                distance(&prev, &widen(&read("prev"))),
                distance(&x0, &widen(&read("x0"))),
                distance(&prev, &paper_prev),
                distance(&x0, &paper_x0),
            ];
            worst = std::array::from_fn(|i| worst[i].max(distances[i]));
        }
        let [prev, x0, paper_prev, paper_x0] = worst;
        println!(
            "{name:25} reference {prev:.1e} {x0:.1e}, formulas {paper_prev:.1e} {paper_x0:.1e}"
        );
        assert!(prev < REFERENCE_TOLERANCE, "{name}: prev is off by {prev}");
        assert!(x0 < REFERENCE_TOLERANCE, "{name}: x0 is off by {x0}");
        assert!(paper_prev < FORMULA_TOLERANCE, "{name}: prev is off the formulas by {paper_prev}");
        assert!(paper_x0 < FORMULA_TOLERANCE, "{name}: x0 is off the formulas by {paper_x0}");
    }
}
