//! Heun's method in sigma space. Equations: Karras, Aittala, Aila, Laine, "Elucidating the design space
//! of diffusion-based generative models", 2022, algorithm 1 without churn; its x is x_t / alpha.

use super::Definition;
use super::euler;
use super::plan::{Grid, Plan};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("heun", None)],
    summary: "second order, two model evaluations a step",
    grid: Grid::Sigma,
    rows,
    ..Definition::PLAIN
};

/// An Euler step, then the same step with the mean of both slopes; the step to the clean sample has no
/// second slope. The step's start is carried and its x_0 remembered.
fn rows(plan: &Plan<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (k, here) in plan.points.iter().enumerate() {
        let next = plan.after(k);
        let predict = Row {
            carried: Some(Combination::X),
            remember: Some(Combination::X0),
            ..plan.row(here, euler::step(here, next.sigma(), &next))
        };
        rows.push(predict);
        if plan.is_last(k) {
            break;
        }
        // Both slopes d = (x - x_0) / sigma, x in the scale of the paper.
        let [x0_of_start, ..] = Combination::HISTORY;
        let start = Combination::CARRIED * (1.0 / here.alpha());
        let end = Combination::X * (1.0 / next.alpha());
        let slope = (start - x0_of_start) * (1.0 / here.sigma());
        let slope_at_end = (end - Combination::X0) * (1.0 / next.sigma());
        let mean = (slope + slope_at_end) * 0.5;
        let corrected = start + mean * (next.sigma() - here.sigma());
        rows.push(plan.row(&next, corrected * next.alpha()));
    }
    rows
}
