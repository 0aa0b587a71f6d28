//! The one kernel: applies a row of a step table to a sample, element by element.
//!
//! This module must not know which sampler a row comes from, nor where noise or predictions come from.

mod matrix;
#[cfg(test)]
mod tests;

use std::ops::{Add, Mul, Sub};

use crate::error::{Error, ErrorKind, Result};

pub use matrix::{MATRIX_COLUMNS, MATRIX_ROWS, RowMatrix, STATE_PARTS, TERMS};

/// How many remembered values a row can reach back to.
pub const HISTORY: usize = 3;

/// What is done to the predicted x_0 before it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thresholding {
    /// Nothing.
    Off,
    /// It is held to [-range, range]; finite and above 0.
    Clip(f64),
    /// Dynamic thresholding (Saharia et al. 2022, section 2.3): with s the `ratio` quantile of |x_0|
    /// over the sample, itself held to [1, max], x_0 is held to [-s, s] and divided by s.
    Dynamic {
        /// In (0, 1]; 0.995 in the paper.
        ratio: f64,
        /// The largest s, finite and at least 1.
        max: f64,
    },
}

/// The logarithm of the noise's variance where the model gives it: `offset + slope v`, v being the
/// second half of the model's channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnedVariance {
    /// What v = 0 stands for.
    pub offset: f64,
    /// v's share.
    pub slope: f64,
}

/// One model evaluation of a sampler, as numbers.
///
/// With x the current sample, m the model output and z standard normal noise,
/// `x0 = threshold(p_x x + p_m m)`; everything else is a linear combination of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The timestep given to the model, in [0, T).
    pub timestep: f64,
    /// alpha_bar of the sample that the row starts from. Nothing is computed with it here.
    pub alpha_cumprod: f64,
    /// x's share in the predicted x_0.
    pub p_x: f64,
    /// m's share in the predicted x_0.
    pub p_m: f64,
    /// What is done to x_0.
    pub thresholding: Thresholding,
    /// What the next sample is made of.
    pub next: Combination,
    /// What is carried to later rows; `None` keeps what is.
    pub carried: Option<Combination>,
    /// What becomes the newest entry of the history; `None` leaves the history as it is.
    pub remember: Option<Combination>,
    /// Multiplies `next.noise` by the square root of this variance; `None` leaves it.
    pub learned_variance: Option<LearnedVariance>,
}

impl Row {
    /// Whether the row uses standard normal noise.
    pub fn draws_noise(&self) -> bool {
        self.next.noise != 0.0
    }

    fn combinations(&self) -> impl Iterator<Item = &Combination> {
        [Some(&self.next), self.carried.as_ref(), self.remember.as_ref()].into_iter().flatten()
    }
}

/// The coefficients of a linear combination over the slots. Combinations add, subtract and scale, so
/// that a sampler's formula can be written as its paper has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Combination {
    /// Of the current sample.
    pub x: f64,
    /// Of the model output, the first half of its channels where it has twice the sample's.
    pub m: f64,
    /// Of the predicted x_0 after thresholding.
    pub x0: f64,
    /// Of the remembered values, newest first, as they were before this row.
    pub history: [f64; HISTORY],
    /// Of the carried sample, as it was before this row.
    pub carried: f64,
    /// Of the noise; 0 where none is drawn. Only `next` has noise.
    pub noise: f64,
}

impl Combination {
    const NONE: Self =
        Self { x: 0.0, m: 0.0, x0: 0.0, history: [0.0; HISTORY], carried: 0.0, noise: 0.0 };
    /// The current sample.
    pub const X: Self = Self { x: 1.0, ..Self::NONE };
    /// The model output.
    pub const M: Self = Self { m: 1.0, ..Self::NONE };
    /// The predicted x_0 after thresholding.
    pub const X0: Self = Self { x0: 1.0, ..Self::NONE };
    /// The carried sample.
    pub const CARRIED: Self = Self { carried: 1.0, ..Self::NONE };
    /// The noise.
    pub const NOISE: Self = Self { noise: 1.0, ..Self::NONE };
    /// The remembered values, newest first.
    pub const HISTORY: [Self; HISTORY] = [
        Self { history: [1.0, 0.0, 0.0], ..Self::NONE },
        Self { history: [0.0, 1.0, 0.0], ..Self::NONE },
        Self { history: [0.0, 0.0, 1.0], ..Self::NONE },
    ];

    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            x: f(self.x, other.x),
            m: f(self.m, other.m),
            x0: f(self.x0, other.x0),
            history: std::array::from_fn(|i| f(self.history[i], other.history[i])),
            carried: f(self.carried, other.carried),
            noise: f(self.noise, other.noise),
        }
    }

    /// The coefficients one after the other: x, m, x0, the history, carried, noise.
    pub fn coefficients(&self) -> [f64; 5 + HISTORY] {
        let [newest, second, third] = self.history;
        [self.x, self.m, self.x0, newest, second, third, self.carried, self.noise]
    }
}

impl Add for Combination {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl Sub for Combination {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl Mul<f64> for Combination {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        self.zip(self, |a, _| a * factor)
    }
}

/// What one sample's rows keep between model evaluations. Only what the rows use takes memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    carried: Vec<f32>,
    history: [Vec<f32>; HISTORY],
    depth: usize,
    /// Room for a quantile.
    magnitudes: Vec<f32>,
}

impl Memory {
    /// Allocates what `rows` need for a sample of `len` values. Errors: `OutOfMemory`.
    pub fn new<'a>(
        rows: impl IntoIterator<Item = &'a Row, IntoIter: Clone>,
        len: usize,
    ) -> Result<Self> {
        let rows = rows.into_iter();
        let combinations = || rows.clone().flat_map(Row::combinations);
        let reach = |c: &Combination| (1..=HISTORY).rev().find(|&i| c.history[i - 1] != 0.0);
        let depth = combinations().filter_map(reach).max().unwrap_or(0);
        let carries = combinations().any(|c| c.carried != 0.0);
        let is_dynamic =
            rows.clone().any(|row| matches!(row.thresholding, Thresholding::Dynamic { .. }));
        let mut memory = Self { depth, ..Self::default() };
        for values in &mut memory.history[..depth] {
            *values = zeros(len)?;
        }
        if carries {
            memory.carried = zeros(len)?;
        }
        if is_dynamic {
            memory.magnitudes = zeros(len)?;
        }
        Ok(memory)
    }

    /// Forgets all: as it was made.
    pub(crate) fn clear(&mut self) {
        self.carried.fill(0.0);
        self.history.iter_mut().for_each(|values| values.fill(0.0));
    }

    /// The carried sample; empty where no row uses one.
    pub(crate) fn carried(&self) -> &[f32] {
        &self.carried
    }

    /// The remembered values, newest first; those that no row reaches are empty.
    pub(crate) fn history(&self) -> &[Vec<f32>; HISTORY] {
        &self.history
    }

    /// Both, to be written.
    pub(crate) fn kept_mut(&mut self) -> (&mut [f32], &mut [Vec<f32>; HISTORY]) {
        (&mut self.carried, &mut self.history)
    }
}

/// Errors: `OutOfMemory`.
pub(crate) fn zeros<T: Copy + Default>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        Error::new(
            ErrorKind::OutOfMemory,
            format!("run: {bytes} bytes for its samples could not be had"),
        )
    })?;
    values.resize(len, T::default());
    Ok(values)
}

/// What a row reads and writes: one sample, in slices of one length and one layout.
#[derive(Debug)]
pub struct Slots<'a> {
    /// x on entry, the next x on return.
    pub sample: &'a mut [f32],
    /// m; where the model gives a variance too, m and then as many values of v.
    pub model_output: &'a [f32],
    /// Standard normal noise; may be empty where the row draws none, and is not read then.
    pub noise: &'a [f32],
    /// Receives the predicted x_0 after thresholding.
    pub pred_original_sample: &'a mut [f32],
    /// Made for the rows of this row's table.
    pub memory: &'a mut Memory,
}

/// Elements that are worked on at once: they stay in the first-level cache as f64.
const BLOCK: usize = 256;

/// Applies `row` to one sample.
///
/// Elements are f32 in memory and f64 in between: near t = T the terms of x_0 are hundreds of times
/// larger than their sum (1 / sqrt(alpha_bar) is 157 for the DDPM schedule), which in f32 costs up
/// to 6e-5 of x_0 there and in f64 nothing. Each result is rounded once, here.
///
/// Errors: `InvalidArgument` where lengths differ or the memory was made for other rows; nothing is
/// written then. Does not allocate or block.
pub fn apply(row: &Row, slots: Slots<'_>) -> Result<()> {
    let Slots { sample, model_output, noise, pred_original_sample, memory } = slots;
    let len = sample.len();
    check(row, len, model_output, noise, pred_original_sample, memory)?;
    let (m, v) = model_output.split_at(len);
    let (limit, scale) = match row.thresholding {
        Thresholding::Off => (f64::INFINITY, 1.0),
        Thresholding::Clip(range) => (range, 1.0),
        Thresholding::Dynamic { ratio, max } => {
            for ((out, &x), &m) in memory.magnitudes.iter_mut().zip(&*sample).zip(m) {
                *out = (row.p_x * f64::from(x) + row.p_m * f64::from(m)).abs() as f32;
            }
            let s = quantile(&mut memory.magnitudes, ratio).max(1.0).min(max);
            (s, 1.0 / s)
        }
    };

    let mut x0 = [0f64; BLOCK];
    let mut next = [0f64; BLOCK];
    let mut carried = [0f64; BLOCK];
    let mut remembered = [0f64; BLOCK];
    for start in (0..len).step_by(BLOCK) {
        let at = start..len.min(start + BLOCK);
        let x0 = &mut x0[..at.len()];
        for ((x0, &x), &m) in x0.iter_mut().zip(&sample[at.clone()]).zip(&m[at.clone()]) {
            *x0 = (row.p_x * f64::from(x) + row.p_m * f64::from(m)).max(-limit).min(limit) * scale;
        }
        // Everything is computed before anything is written: the combinations read what was.
        let read = |combination: &Combination, out: &mut [f64]| {
            let Combination { x: c_x, m: c_m, x0: c_x0, .. } = *combination;
            let inputs = sample[at.clone()].iter().zip(&m[at.clone()]).zip(&*x0);
            for (out, ((&x, &m), &x0)) in out.iter_mut().zip(inputs) {
                *out = c_x * f64::from(x) + c_m * f64::from(m) + c_x0 * x0;
            }
            for (&share, values) in combination.history.iter().zip(&memory.history) {
                if share != 0.0 {
                    add(out, share, &values[at.clone()]);
                }
            }
            if combination.carried != 0.0 {
                add(out, combination.carried, &memory.carried[at.clone()]);
            }
        };
        let next = &mut next[..at.len()];
        read(&row.next, next);
        if let Some(combination) = &row.carried {
            read(combination, &mut carried[..at.len()]);
        }
        if let Some(combination) = &row.remember {
            read(combination, &mut remembered[..at.len()]);
        }
        match row.learned_variance {
            _ if !row.draws_noise() => {}
            None => add(next, row.next.noise, &noise[at.clone()]),
            Some(LearnedVariance { offset, slope }) => {
                for ((next, &z), &v) in next.iter_mut().zip(&noise[at.clone()]).zip(&v[at.clone()])
                {
                    let deviation = (0.5 * (offset + slope * f64::from(v))).exp();
                    *next += row.next.noise * deviation * f64::from(z);
                }
            }
        }
        if row.carried.is_some() && !memory.carried.is_empty() {
            store(&mut memory.carried[at.clone()], &carried);
        }
        if row.remember.is_some() && memory.depth > 0 {
            // In the place of the oldest entry, which nothing needs any more.
            store(&mut memory.history[memory.depth - 1][at.clone()], &remembered);
        }
        store(&mut pred_original_sample[at.clone()], x0);
        store(&mut sample[at], next);
    }
    // No rows of the table may reach back at all, those of a first-order run say.
    if row.remember.is_some() && memory.depth > 0 {
        memory.history[..memory.depth].rotate_right(1);
    }
    Ok(())
}

fn check(
    row: &Row,
    len: usize,
    model_output: &[f32],
    noise: &[f32],
    pred_original_sample: &[f32],
    memory: &Memory,
) -> Result<()> {
    let gives_variance = model_output.len() == 2 * len && len > 0;
    for (name, found) in [
        ("model_output", if gives_variance { len } else { model_output.len() }),
        ("pred_original_sample", pred_original_sample.len()),
        ("noise", if row.draws_noise() { noise.len() } else { len }),
    ] {
        if found != len {
            return Err(Error::invalid_argument(format!(
                "{name}: found {found} values, expected {len} as in the sample"
            )));
        }
    }
    if row.learned_variance.is_some() && !gives_variance {
        return Err(Error::invalid_argument(format!(
            "model_output: found {len} values, expected {} as the row reads a learned variance",
            2 * len
        )));
    }
    let fits = |combination: &Combination| {
        let history = combination.history.iter().zip(&memory.history);
        history.clone().all(|(&share, values)| share == 0.0 || values.len() == len)
            && (combination.carried == 0.0 || memory.carried.len() == len)
    };
    let is_dynamic = matches!(row.thresholding, Thresholding::Dynamic { .. });
    // What the row only writes counts too.
    let is_foreign = memory
        .history
        .iter()
        .chain([&memory.carried])
        .any(|values| !values.is_empty() && values.len() != len);
    if is_foreign || !row.combinations().all(fits) || (is_dynamic && memory.magnitudes.len() != len)
    {
        return Err(Error::invalid_argument(format!(
            "memory: expected one made for the rows of this table and {len} values"
        )));
    }
    Ok(())
}

fn add(out: &mut [f64], share: f64, values: &[f32]) {
    if share != 0.0 {
        for (out, &value) in out.iter_mut().zip(values) {
            *out += share * f64::from(value);
        }
    }
}

fn store(out: &mut [f32], values: &[f64]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = value as f32;
    }
}

/// The `ratio` quantile, interpolated between its two neighbours. Reorders the values.
fn quantile(values: &mut [f32], ratio: f64) -> f64 {
    let position = ratio * values.len().saturating_sub(1) as f64;
    let lower = position as usize;
    if lower >= values.len() {
        return 0.0;
    }
    let (_, &mut at, above) = values.select_nth_unstable_by(lower, f32::total_cmp);
    let next = above.iter().copied().min_by(f32::total_cmp).unwrap_or(at);
    f64::from(at) + position.fract() * (f64::from(next) - f64::from(at))
}
