//! The kernel, in f32, against the same rows in f64: the tests of this folder go through the rows in f64.

use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{SamplerConfig, step_table};
use ddpm::step::{self, Memory, Slots};

use super::laws::Law;
use super::ode_orders::GAUSSIAN;
use super::rows::end_of;
use super::samplers::all_forms;

#[test]
fn kernel_does_what_the_rows_say() {
    let schedule = NoiseSchedule::ddpm();
    let starts: Vec<f64> = (0..300).map(|i| -2.0 + f64::from(i) / 75.0).collect();
    let z = 0.5;
    for form in all_forms() {
        let config = SamplerConfig { steps: 20, ..form.config() };
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        let mut sample: Vec<f32> = starts.iter().map(|&x| x as f32).collect();
        let mut memory = Memory::new(table.rows(), sample.len()).unwrap();
        for row in table.rows() {
            let a = row.alpha_cumprod;
            // The inverse reads the model at the level of its timestep, where its sample is not yet.
            let a = if a < 1.0 { a } else { schedule.alphas_cumprod()[0] };
            let model = |&x: &f32| GAUSSIAN.epsilon(f64::from(x), a) as f32;
            let model_output: Vec<f32> = sample.iter().map(model).collect();
            let slots = Slots {
                model_output: &model_output,
                noise: &vec![z as f32; sample.len()],
                pred_original_sample: &mut vec![0.0; sample.len()],
                memory: &mut memory,
                sample: &mut sample,
            };
            step::apply(row, slots).unwrap();
        }
        for (&x, &found) in starts.iter().zip(&sample) {
            let expected = end_of(table.rows(), f64::from(x as f32), z, |row, x| {
                let a = row.alpha_cumprod;
                let a = if a < 1.0 { a } else { schedule.alphas_cumprod()[0] };
                GAUSSIAN.epsilon(x, a)
            });
            // 1 / alpha is 157 at first, and epsilon and the sample are rounded to f32 in every row.
            let error = (f64::from(found) - expected).abs();
            assert!(error < 1e-4, "{} from {x}: {found}, expected {expected}", form.name());
        }
    }
}
