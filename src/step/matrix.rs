//! A row as numbers in fixed places, for a kernel that does not run here: one matrix takes all that a
//! sample keeps to what it keeps next.

use super::{Combination, HISTORY, LearnedVariance, Row, Thresholding};

/// What a sample keeps between rows, in this order: x, the carried sample, the history (newest first),
/// and the x_0 last predicted.
pub const STATE_PARTS: usize = 3 + HISTORY;

/// What the matrix combines: the parts of the state, the model output, the new x_0, and the noise.
pub const MATRIX_COLUMNS: usize = STATE_PARTS + 3;

/// The next state, and what is to be seen of it.
pub const MATRIX_ROWS: usize = STATE_PARTS + 1;

/// The numbers for x_0 and for the noise, see [`RowMatrix::terms`].
pub const TERMS: usize = 6;

const X: usize = 0;
const CARRIED: usize = 1;
const NEWEST: usize = 2;
const M: usize = STATE_PARTS;
const X0: usize = STATE_PARTS + 1;
const NOISE: usize = STATE_PARTS + 2;

/// A row, and which picture its frame shows, as [`apply`](super::apply) computes it:
/// with `x0 = clamp(p_x x + p_m m)` and `z exp((offset + slope v) / 2)` for the noise, everything that
/// is kept is the matrix times what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowMatrix {
    /// p_x, p_m, the least and the greatest x_0, and the offset and the slope of a learned variance's
    /// logarithm, both 0 where there is none.
    pub terms: [f64; TERMS],
    /// Rows by columns.
    pub matrix: [[f64; MATRIX_COLUMNS]; MATRIX_ROWS],
}

impl RowMatrix {
    /// None for a row that is no matrix: dynamic thresholding takes a quantile. `shows_sample`: the picture
    /// is the next x, and not the predicted x_0.
    pub fn of(row: &Row, shows_sample: bool) -> Option<Self> {
        let limit = match row.thresholding {
            Thresholding::Off => f64::INFINITY,
            Thresholding::Clip(range) => range,
            Thresholding::Dynamic { .. } => return None,
        };
        let LearnedVariance { offset, slope } =
            row.learned_variance.unwrap_or(LearnedVariance { offset: 0.0, slope: 0.0 });
        let keep = |part: usize| std::array::from_fn(|column| f64::from(column == part));
        let carried = row.carried.as_ref().map_or_else(|| keep(CARRIED), columns);
        let history = |age: usize| match &row.remember {
            None => keep(NEWEST + age),
            Some(newest) if age == 0 => columns(newest),
            Some(_) => keep(NEWEST + age - 1),
        };
        let next = columns(&row.next);
        let shown = if shows_sample { next } else { keep(X0) };
        let matrix = [next, carried, history(0), history(1), history(2), keep(X0), shown];
        Some(Self { terms: [row.p_x, row.p_m, -limit, limit, offset, slope], matrix })
    }
}

fn columns(combination: &Combination) -> [f64; MATRIX_COLUMNS] {
    let mut columns = [0.0; MATRIX_COLUMNS];
    columns[X] = combination.x;
    columns[CARRIED] = combination.carried;
    columns[NEWEST..NEWEST + HISTORY].copy_from_slice(&combination.history);
    columns[M] = combination.m;
    columns[X0] = combination.x0;
    columns[NOISE] = combination.noise;
    columns
}
