//! One step of training, computed in parts or at once.

mod common;

use burn::tensor::Device;
use common::{folder, write_run};
use ddpm_train::batches::Batches;
use ddpm_train::config::Config;
use ddpm_train::fit::read_data;
use ddpm_train::parameters::{Parameters, specs};
use ddpm_train::step::gradients;

type Gradient = (f64, Vec<Vec<f32>>);

/// Loss and gradient of step 5 by random weights, in that many batches of that many images, with that
/// many threads.
fn gradient(name: &str, accumulate: usize, batch: usize, threads: usize) -> Gradient {
    let device = Device::flex();
    let path = write_run(&folder(name), 7, |c| {
        (c.train.accumulate, c.train.batch) = (accumulate, batch);
        (c.data.flip, c.data.shift) = (true, 2);
    });
    let (config, data) = read_data(&Config::read(&path).unwrap()).unwrap();
    // What starts at zero must not hide what comes before it.
    let mut weights = specs(&config.network());
    for spec in &mut weights {
        spec.start = ddpm_train::network::Start::Uniform { inputs: spec.shape[0] };
    }
    let weights = Parameters::initial(weights, 1, &device).unwrap();
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let taken = pool.install(|| gradients(&config, &mut batches, 5, &weights));
    let (loss, gradients) = taken.unwrap();
    let values = gradients.into_iter().map(|g| g.unwrap().try_into_vec_as::<f32>().unwrap());
    (loss, values.collect())
}

/// Equal but for the order in which float32 values are summed up.
#[track_caller]
fn assert_same((loss, parts): &Gradient, (whole_loss, whole): &Gradient) {
    assert!((loss - whole_loss).abs() < 1e-5 * whole_loss, "{loss}, at once {whole_loss}");
    for (parts, whole) in parts.iter().zip(whole) {
        let largest = whole.iter().fold(0f32, |max, v| max.max(v.abs()));
        assert!(largest > 0.0);
        for (a, b) in parts.iter().zip(whole) {
            assert!((a - b).abs() <= 1e-5 * largest.max(1.0), "{a}, at once {b}");
        }
    }
}

#[test]
fn step_of_four_batches_is_the_step_of_one_four_times_as_large() {
    let whole = gradient("step_whole", 1, 12, 1);
    for (accumulate, batch) in [(4, 3), (12, 1)] {
        assert_same(&gradient("step_parts", accumulate, batch, 1), &whole);
    }
}

#[test]
fn step_is_the_same_whatever_threads_share_it_and_bit_for_bit_with_as_many() {
    let alone = gradient("step_alone", 2, 7, 1);
    for threads in [2, 3, 16] {
        let shared = gradient("step_shared", 2, 7, threads);
        assert_same(&shared, &alone);
        assert_eq!(gradient("step_again", 2, 7, threads), shared, "{threads} threads");
    }
}
