//! Step tables applied in f64: what the kernel computes without its rounding to f32, and what a table
//! makes of a mean and a covariance.

use ddpm::step::{Combination, HISTORY, Row, Thresholding};

/// x, the history newest first, and the carried sample.
const STATE: usize = 2 + HISTORY;
const X: usize = 0;
const CARRIED: usize = 1 + HISTORY;

/// A combination as an affine function of the state, for a model that is one: m = gain x + shift.
struct Affine {
    on: [f64; STATE],
    constant: f64,
    noise: f64,
}

impl Affine {
    fn new(row: &Row, combination: &Combination, gain: f64, shift: f64) -> Self {
        let [x, m, x0, h1, h2, h3, carried, noise] = combination.coefficients();
        let on_m = m + x0 * row.p_m;
        Self {
            on: [x + x0 * row.p_x + on_m * gain, h1, h2, h3, carried],
            constant: on_m * shift,
            noise,
        }
    }
}

fn assert_linear(row: &Row) {
    assert_eq!(row.thresholding, Thresholding::Off, "a clip is not linear");
    assert_eq!(row.learned_variance, None, "a learned variance is not linear");
}

/// The state after a row whose `next`, `carried` and `remember` have the values given.
fn store(state: [f64; STATE], row: &Row, value: impl Fn(&Combination) -> f64) -> [f64; STATE] {
    let mut after = state;
    after[X] = value(&row.next);
    if let Some(combination) = &row.carried {
        after[CARRIED] = value(combination);
    }
    if let Some(combination) = &row.remember {
        after[2..CARRIED].copy_from_slice(&state[1..CARRIED - 1]);
        after[1] = value(combination);
    }
    after
}

/// The x after `rows`, from `start`, with `model` a function of row and x, and `z` the value of every
/// noise.
pub fn end_of(rows: &[Row], start: f64, z: f64, model: impl Fn(&Row, f64) -> f64) -> f64 {
    let mut state = [0.0; STATE];
    state[X] = start;
    for row in rows {
        assert_linear(row);
        let m = model(row, state[X]);
        let x0 = row.p_x * state[X] + row.p_m * m;
        state = store(state, row, |combination| {
            let [x, of_m, of_x0, h1, h2, h3, carried, noise] = combination.coefficients();
            let [s_x, s_1, s_2, s_3, s_carried] = state;
            let history = h1 * s_1 + h2 * s_2 + h3 * s_3;
            x * s_x + of_m * m + of_x0 * x0 + history + carried * s_carried + noise * z
        });
    }
    state[X]
}

/// A normal law of x.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    pub mean: f64,
    pub variance: f64,
}

/// The moments of x after each row, from those of the start, for a model m = gain x + shift with
/// (gain, shift) given for each row. Every row is then an affine map of the state plus independent
/// noise, so mean and covariance follow exactly.
pub fn moments_of(
    rows: &[Row],
    start: Moments,
    model: impl Fn(&Row) -> (f64, f64),
) -> Vec<Moments> {
    let mut mean = [0.0; STATE];
    let mut covariance = [[0.0; STATE]; STATE];
    mean[X] = start.mean;
    covariance[X][X] = start.variance;
    let mut all = Vec::new();
    for row in rows {
        assert_linear(row);
        let (gain, shift) = model(row);
        let affine = |combination: &Combination| Affine::new(row, combination, gain, shift);
        // The rows of the state's map, as maps of unit vectors.
        let columns: [[f64; STATE]; STATE] = std::array::from_fn(|j| {
            let unit = std::array::from_fn(|i| f64::from(u8::from(i == j)));
            store(unit, row, |combination| affine(combination).on[j])
        });
        let image = |v: &[f64; STATE]| -> [f64; STATE] {
            std::array::from_fn(|i| (0..STATE).map(|j| columns[j][i] * v[j]).sum())
        };
        let constant = store([0.0; STATE], row, |combination| affine(combination).constant);
        let moved = image(&mean);
        mean = std::array::from_fn(|i| moved[i] + constant[i]);
        // A C A^T, one side at a time.
        let half: [[f64; STATE]; STATE] = std::array::from_fn(|i| image(&covariance[i]));
        let turned: [[f64; STATE]; STATE] =
            std::array::from_fn(|i| std::array::from_fn(|j| half[j][i]));
        covariance = std::array::from_fn(|i| image(&turned[i]));
        covariance[X][X] += affine(&row.next).noise.powi(2);
        all.push(Moments { mean: mean[X], variance: covariance[X][X] });
    }
    all
}
