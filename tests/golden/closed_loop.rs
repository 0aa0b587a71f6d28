//! The sampler and ONNX Runtime in a loop, from a recorded start: errors may add up, or be damped, but
//! the loop stays with the reference to its end. Needs the ONNX Runtime library.

use ddpm::model::Denoiser;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions, Provider};
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::step::{self, Memory, Row, Slots};
use ndarray::{ArrayView4, ArrayViewMut4};

use crate::trajectory::{Trajectory, golden_path};
use crate::{CASES, Case, distance, papers, widen};

const SHAPE: [usize; 4] = [1, 3, 8, 8];
const LEN: usize = 3 * 8 * 8;

/// The class that `ddpm_class` was recorded with.
const LABEL: i64 = 3;

/// Two float32 implementations of a network and of a schedule differ by 1e-5 a step or so.
const LOOP_TOLERANCE: f64 = 1e-3;

struct Network(OnnxDenoiser);

impl Network {
    fn load(model: &str) -> Self {
        let path = golden_path(&format!("models/{model}.onnx"));
        let options = OnnxOptions { provider: Provider::Cpu, threads: 1, ..Default::default() };
        Self(OnnxDenoiser::load(&ModelSource::Path(path), &options).unwrap())
    }

    fn predict(&mut self, x: &[f32], t: f64) -> Vec<f32> {
        let config = self.0.config();
        let channels = config.output_channels();
        let labels: &[i64] = if config.classes.is_some() { &[LABEL] } else { &[] };
        let mut output = vec![0.0; channels * LEN / SHAPE[1]];
        self.0
            .predict(
                ArrayView4::from_shape(SHAPE, x).unwrap(),
                &[t],
                labels,
                ArrayViewMut4::from_shape([1, channels, 8, 8], &mut output).unwrap(),
            )
            .unwrap();
        output
    }

    /// One row of the library: the model, then the kernel. Returns x_0.
    fn step(
        &mut self,
        row: &Row,
        sample: &mut [f32],
        noise: &[f32],
        memory: &mut Memory,
    ) -> Vec<f32> {
        let model_output = self.predict(sample, row.timestep);
        let mut x0 = vec![0.0; sample.len()];
        let slots = Slots {
            sample,
            model_output: &model_output,
            noise,
            pred_original_sample: &mut x0,
            memory,
        };
        step::apply(row, slots).unwrap();
        x0
    }
}

/// Where rows are missing in the file, as in `ddpm_linear_1000`, the loop begins anew at the next
/// recorded one.
#[test]
fn closed_loop_stays_with_the_reference() {
    for Case { name, model, .. } in CASES {
        let Some(model) = model else { continue };
        let golden = Trajectory::load(name);
        let mut network = Network::load(model);
        let table = golden.table();
        let mut memory = Memory::new(table.rows(), LEN).unwrap();
        let mut sample = Vec::new();
        let mut last = None;
        let mut worst = 0f64;
        for k in golden.recorded_rows() {
            if last.is_none_or(|last| last + 1 != k) {
                sample = golden.x(k);
            }
            last = Some(k);
            let row = &table.rows()[k];
            let x0 = network.step(row, &mut sample, &golden.noise(k), &mut memory);
            let recorded = [("prev", &sample, Some(golden.prev(k))), ("x0", &x0, golden.x0(k))];
            for (what, found, expected) in recorded {
                let Some(expected) = expected else { continue };
                let off = distance(found, &widen(&expected));
                assert!(off < LOOP_TOLERANCE, "{name} row {k}: {what} is off by {off}");
                worst = worst.max(off);
            }
        }
        assert_eq!(last, Some(table.rows().len() - 1), "{name}");
        println!("{name:26} closed loop {worst:.1e}");
    }
}

/// The file of a thousand steps cannot be followed from end to end, so the formulas in float64 take
/// its place: both loops run the same network on the same noise, from the recorded start.
#[test]
fn closed_loop_of_1000_steps_stays_with_the_formulas() {
    let golden = Trajectory::load("ddpm_linear_1000");
    let mut network = Network::load("eps_linear");
    let table = golden.table();
    let mut memory = Memory::new(table.rows(), LEN).unwrap();
    let mut paper = papers::Run::new(&golden);
    let mut sample = golden.x(0);
    let mut exact = widen(&sample);
    let mut worst = 0f64;
    for (k, row) in table.rows().iter().enumerate() {
        let mut noise = [0f32; LEN];
        fill_standard_normal(1, Purpose::StepNoise, k as u32, &mut noise);
        network.step(row, &mut sample, &noise, &mut memory);

        let narrow: Vec<f32> = exact.iter().map(|&v| v as f32).collect();
        let model_output = widen(&network.predict(&narrow, row.timestep));
        [exact, _] = paper.step(k, &exact, &model_output, &widen(&noise));
        worst = worst.max(distance(&sample, &exact));
        assert!(worst < LOOP_TOLERANCE, "step {k}: the sample is off by {worst}");
    }
    println!("1000 steps against float64: {worst:.1e}");
}
