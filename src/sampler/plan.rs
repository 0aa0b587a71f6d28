//! The points a run visits, with everything a sampler may know of each.

use super::Definition;
use super::config::{FinalAlpha, SamplerConfig, SigmaSpacing};
use crate::error::Result;
use crate::noise_schedule::{NoiseSchedule, sigma_of};
use crate::prediction::{PredictionType, epsilon_of_x0};
use crate::step::{Combination, Row};
use crate::timesteps::{
    TimestepSpacing, check_timesteps, distilled_timesteps, fractional_linspace, open_timesteps,
    timesteps,
};

/// Where a sampler's points lie, apart from what the config says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// Whole timesteps, a linspace with both ends.
    Closed,
    /// Whole timesteps; the lowest of one more is left out, being where the last step goes to.
    Open,
    /// Fractional timesteps with interpolated sigmas.
    Sigma,
    /// Those of a consistency distillation, whatever the spacing.
    Distilled,
    /// As `Closed`, from the clean end to the noisy one.
    Ascending,
}

/// What stands for an alpha_bar of 0 where formulas divide by it, as in diffusers; less where the
/// timestep before has no more itself.
const LEAST_ALPHA_BAR: f64 = 1.0 / 16_777_216.0;

/// The exponent of Karras et al. 2022, eq. 5.
const RHO: f64 = 7.0;

/// A noise level, and how the model is read there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// The timestep given to the model.
    pub(super) timestep: f64,
    pub(super) alpha_bar: f64,
    /// (p_x, p_m): x_0 = p_x x + p_m m.
    pub(super) x0: (f64, f64),
    /// (e_x, e_m): epsilon = e_x x + e_m m, before any thresholding.
    pub(super) epsilon: (f64, f64),
}

impl Point {
    /// alpha of the papers that have alpha^2 + sigma^2 = 1: the signal's share in x.
    pub(super) fn alpha(&self) -> f64 {
        self.alpha_bar.sqrt()
    }

    /// sigma of the same papers: the noise's share in x.
    pub(super) fn spread(&self) -> f64 {
        (1.0 - self.alpha_bar).sqrt()
    }

    /// sigma of Karras et al. 2022, spread over alpha; 0 where clean.
    pub(super) fn sigma(&self) -> f64 {
        self.spread() / self.alpha()
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite where clean.
    pub(super) fn lambda(&self) -> f64 {
        -self.sigma().ln()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.alpha_bar >= 1.0
    }

    /// epsilon from the raw model output.
    pub(super) fn raw_epsilon(&self) -> Combination {
        Combination::X * self.epsilon.0 + Combination::M * self.epsilon.1
    }

    /// epsilon from x_0 after thresholding: (x - alpha x_0) / spread.
    pub(super) fn epsilon_of_x0(&self) -> Combination {
        (Combination::X - Combination::X0 * self.alpha()) * (1.0 / self.spread())
    }
}

/// A run's points.
pub(super) struct Plan<'a> {
    pub(super) config: &'a SamplerConfig,
    /// The levels at which the model is called, in order; fewer than `total` after a strength below 1.
    pub(super) points: Vec<Point>,
    /// What follows the last; in front of the first where they ascend.
    pub(super) end: Point,
    /// The points of the whole run.
    pub(super) total: usize,
    pub(super) prediction_type: PredictionType,
    schedule: &'a NoiseSchedule,
    grid: Grid,
    least_alpha_bar: f64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        schedule: &'a NoiseSchedule,
        prediction_type: PredictionType,
        config: &'a SamplerConfig,
        definition: &Definition,
    ) -> Result<Self> {
        let grid = definition.grid;
        let spreads_sigmas = config.sigmas != SigmaSpacing::Timesteps;
        let final_alpha_bar = match config.final_alpha {
            FinalAlpha::One => 1.0,
            FinalAlpha::First => schedule.alphas_cumprod()[0],
        };
        let mut plan = Self {
            config,
            points: Vec::new(),
            end: Point { timestep: 0.0, alpha_bar: 1.0, x0: (0.0, 0.0), epsilon: (0.0, 0.0) },
            total: 0,
            schedule,
            prediction_type,
            grid,
            least_alpha_bar: match schedule.alphas_cumprod() {
                [.., before, 0.0] if !definition.takes_zero_snr || spreads_sigmas => {
                    LEAST_ALPHA_BAR.min(0.5 * before)
                }
                _ => 0.0,
            },
        };
        plan.end = plan.point(0.0, final_alpha_bar);
        let list = plan.timesteps()?;
        let mut points = match config.sigmas {
            SigmaSpacing::Timesteps => {
                list.iter().map(|&t| plan.point(t, plan.alpha_bar_at(t))).collect()
            }
            _ => plan.sigma_points(&list),
        };
        plan.total = points.len();
        points.drain(..plan.total - config.steps_taken(plan.total));
        if grid == Grid::Ascending {
            points.reverse();
        }
        plan.points = points;
        Ok(plan)
    }

    fn timesteps(&self) -> Result<Vec<f64>> {
        let config = self.config;
        let SamplerConfig { steps, spacing, steps_offset, .. } = *config;
        let total = self.schedule.num_train_timesteps();
        let whole = match (&config.timesteps, self.grid) {
            (Some(list), _) => {
                check_timesteps(total, list)?;
                list.to_vec()
            }
            (None, Grid::Open) => open_timesteps(total, steps, spacing, steps_offset)?,
            (None, Grid::Distilled) => distilled_timesteps(total, steps, config.original_steps)?,
            (None, Grid::Sigma)
                if spacing == TimestepSpacing::Linspace && config.fractional_timesteps =>
            {
                return fractional_linspace(total, steps);
            }
            (None, Grid::Closed | Grid::Ascending | Grid::Sigma) => {
                timesteps(total, steps, spacing, steps_offset)?
            }
        };
        Ok(whole.into_iter().map(|t| t as f64).collect())
    }

    /// As many points as `list` has, spread over sigma. The range is that of the schedule, but for
    /// solvers in sigma space that of the list, as in diffusers.
    fn sigma_points(&self, list: &[f64]) -> Vec<Point> {
        let ends = match self.grid {
            Grid::Sigma => (list[0], list[list.len() - 1]),
            _ => ((self.schedule.num_train_timesteps() - 1) as f64, 0.0),
        };
        let (first, last) = (self.alpha_bar_at(ends.0), self.alpha_bar_at(ends.1));
        let (high, low) = (sigma_of(first), sigma_of(last));
        let share = |i: usize| i as f64 / (list.len().max(2) - 1) as f64;
        let between = |a: f64, b: f64, i: usize| a + share(i) * (b - a);
        let is_fractional = self.grid == Grid::Sigma && self.config.fractional_timesteps;
        let point = |i: usize| {
            // The ends are those of the schedule to the last bit: a level just above that of the end
            // of the run would make a step backwards.
            if i == 0 {
                return self.point(ends.0, first);
            }
            if i + 1 == list.len() {
                return self.point(ends.1, last);
            }
            let sigma = match self.config.sigmas {
                // Karras et al. 2022, eq. 5.
                SigmaSpacing::Karras => {
                    between(high.powf(1.0 / RHO), low.powf(1.0 / RHO), i).powf(RHO)
                }
                _ => between(high.ln(), low.ln(), i).exp(),
            };
            let timestep = self.schedule.timestep_of_sigma(sigma);
            let timestep = if is_fractional { timestep } else { timestep.round_ties_even() };
            self.point(timestep, 1.0 / (1.0 + sigma * sigma))
        };
        (0..list.len()).map(point).collect()
    }

    fn alpha_bar_at(&self, t: f64) -> f64 {
        let alpha_bar = if t.fract() == 0.0 {
            self.schedule.alphas_cumprod()[t as usize]
        } else {
            1.0 / (1.0 + self.schedule.sigma_at(t).powi(2))
        };
        if alpha_bar > 0.0 { alpha_bar } else { self.least_alpha_bar }
    }

    /// The point at `timestep` with this alpha_bar.
    pub(super) fn point(&self, timestep: f64, alpha_bar: f64) -> Point {
        let before = 1.0 / (1.0 + self.schedule.sigma_at(timestep - 1.0).powi(2));
        // Where alpha_bar is 0 a mean has nothing of x in it; read at the stand-in it would seem to
        // have, and x_0, the small rest, would be lost.
        let is_stand_in = alpha_bar <= self.least_alpha_bar;
        let read = match self.prediction_type {
            PredictionType::Mean if is_stand_in => 0.0,
            _ => alpha_bar,
        };
        let x0 = self.prediction_type.x0_coefficients_at(read, before);
        let epsilon = match self.prediction_type {
            PredictionType::Mean if is_stand_in => epsilon_of_x0(x0, alpha_bar),
            prediction_type => prediction_type.epsilon_coefficients_at(alpha_bar, before),
        };
        Point { timestep, alpha_bar, x0, epsilon }
    }

    /// alpha_bar of a whole training timestep.
    pub(super) fn alpha_bar_of(&self, timestep: usize) -> f64 {
        self.alpha_bar_at(timestep as f64)
    }

    /// The point that step k goes to: the next, or the end.
    pub(super) fn after(&self, k: usize) -> Point {
        self.points.get(k + 1).copied().unwrap_or(self.end)
    }

    pub(super) fn is_last(&self, k: usize) -> bool {
        k + 1 == self.points.len()
    }

    /// How many steps are left with step k, k's own included.
    pub(super) fn left(&self, k: usize) -> usize {
        self.points.len() - k
    }

    /// The row of a model call at `point`: `next` and nothing kept.
    pub(super) fn row(&self, point: &Point, next: Combination) -> Row {
        Row {
            timestep: point.timestep,
            alpha_cumprod: point.alpha_bar,
            p_x: point.x0.0,
            p_m: point.x0.1,
            thresholding: self.config.thresholding,
            next,
            carried: None,
            remember: None,
            learned_variance: None,
        }
    }

    /// A row for each point, with step number, where it is and where it goes to.
    pub(super) fn rows(&self, row: impl Fn(usize, &Point, &Point) -> Row) -> Vec<Row> {
        let one = |(k, point): (usize, &Point)| row(k, point, &self.after(k));
        self.points.iter().enumerate().map(one).collect()
    }
}
