//! UniPC: a predictor, and a corrector that improves the sample with the model call made anyway.
//! Equations: Zhao, Bai, Rao, Zhou, Lu, "UniPC: a unified predictor-corrector framework for fast sampling
//! of diffusion models", 2023, in its data-prediction form (appendix E).

use super::Definition;
use super::config::SolverType;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, HISTORY, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("unipc", None), ("unipc-1", Some(1)), ("unipc-2", Some(2)), ("unipc-3", Some(3))],
    summary: "predictor and corrector: deterministic, good from about 8 steps",
    grid: Grid::Open,
    orders: Some(1..=3),
    solver_types: &[SolverType::Bh2, SolverType::Bh1],
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

/// The corrected sample is carried to the next row, where it is the corrector's start.
fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let corrected = if k == 0 { Combination::X } else { corrector(plan, k, here) };
    let order = order_at(plan, k, here, next);
    let step = Step::new(plan, &plan.points[k], next);
    let mut predicted = step.first_order(corrected, Combination::X0);
    if order > 1 {
        let ratios = step.ratios(plan, k, order);
        // Of the predictor's equations the last, which needs the end's own output, is left out; with
        // one left its solution is taken at h -> 0 (section 3.2).
        let weights = match order {
            2 => [0.5, 0.0, 0.0],
            _ => solve(order - 1, &ratios, &step.right_hand_side()),
        };
        let newest = Combination::X0;
        for i in 0..order - 1 {
            let difference = (Combination::HISTORY[i] - newest) * (1.0 / ratios[i]);
            predicted = predicted - difference * (step.scale() * weights[i]);
        }
    }
    Row { carried: Some(corrected), remember: Some(Combination::X0), ..plan.row(here, predicted) }
}

/// The sample at step k made anew, from the one before and with the output that is known by now.
fn corrector(plan: &Plan<'_>, k: usize, here: &Point) -> Combination {
    let before = &plan.points[k - 1];
    let order = order_at(plan, k - 1, before, here);
    let step = Step::new(plan, before, here);
    let newest = Combination::HISTORY[0];
    let ratios = step.ratios(plan, k - 1, order);
    let weights = match order {
        1 => [0.5, 0.0, 0.0],
        _ => solve(order, &ratios, &step.right_hand_side()),
    };
    let mut corrected = step.first_order(Combination::CARRIED, newest);
    for i in 0..order {
        let other = if i + 1 == order { Combination::X0 } else { Combination::HISTORY[i + 1] };
        let difference = (other - newest) * (1.0 / ratios[i]);
        corrected = corrected - difference * (step.scale() * weights[i]);
    }
    corrected
}

/// As high as the history reaches; 1 in a step to the clean sample or of no length; towards the end of
/// a run no higher than the steps left.
fn order_at(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> usize {
    if next.is_clean() || next.alpha_bar <= here.alpha_bar {
        return 1;
    }
    let most = if plan.config.lower_order_final { plan.left(k) } else { usize::MAX };
    plan.config.order().min(k + 1).min(most)
}

/// One step in lambda, half the logarithm of the SNR.
struct Step {
    start: Point,
    end: Point,
    /// Its length, infinite where it ends in the clean sample.
    h: f64,
    solver_type: SolverType,
}

impl Step {
    fn new(plan: &Plan<'_>, start: &Point, end: &Point) -> Self {
        Self {
            start: *start,
            end: *end,
            h: end.lambda() - start.lambda(),
            solver_type: plan.config.solver_type.unwrap_or(SolverType::Bh2),
        }
    }

    /// The exponential integrator with a constant x_0.
    fn first_order(&self, x: Combination, x0: Combination) -> Combination {
        let shrink = self.end.sigma() / self.start.sigma();
        x * (self.end.spread() / self.start.spread()) + x0 * (self.end.alpha() * (1.0 - shrink))
    }

    /// B(h) of section 3.1, with the sign that data prediction gives h.
    fn b(&self) -> f64 {
        if self.solver_type == SolverType::Bh1 { -self.h } else { (-self.h).exp_m1() }
    }

    fn scale(&self) -> f64 {
        self.end.alpha() * self.b()
    }

    /// r_i of the points before the start, and 1 for the end, which comes last.
    fn ratios(&self, plan: &Plan<'_>, start: usize, order: usize) -> [f64; HISTORY] {
        std::array::from_fn(|i| match i + 1 {
            back if back < order => {
                (plan.points[start - back].lambda() - self.start.lambda()) / self.h
            }
            _ => 1.0,
        })
    }

    /// phi_{i+1}(h) i! h^i / B(h) for i from 1 (eq. 5).
    fn right_hand_side(&self) -> [f64; HISTORY] {
        let h = -self.h;
        let mut phi = h.exp_m1() / h - 1.0;
        let mut factorial = 1.0;
        std::array::from_fn(|i| {
            let value = phi * factorial / self.b();
            factorial *= (i + 2) as f64;
            phi = phi / h - 1.0 / factorial;
            value
        })
    }
}

/// Solves sum_j ratios_j^i weights_j = right_i for i below `order`, by elimination.
fn solve(order: usize, ratios: &[f64; HISTORY], right: &[f64; HISTORY]) -> [f64; HISTORY] {
    let mut rows: [[f64; HISTORY + 1]; HISTORY] = std::array::from_fn(|i| {
        std::array::from_fn(|j| if j == HISTORY { right[i] } else { ratios[j].powi(i as i32) })
    });
    for pivot in 0..order {
        // The ratios differ, so no pivot of such a matrix is 0.
        let row = rows[pivot].map(|value| value / rows[pivot][pivot]);
        for (i, other) in rows.iter_mut().enumerate().take(order) {
            let factor = other[pivot];
            if i == pivot {
                *other = row;
            } else {
                other.iter_mut().zip(row).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
            }
        }
    }
    std::array::from_fn(|i| if i < order { rows[i][HISTORY] } else { 0.0 })
}
