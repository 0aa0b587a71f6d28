//! How much of a change lies between two timesteps: a piecewise linear function that never falls.

/// The change on the way down to a timestep. Beyond its ends it goes on as it does at the nearest
/// piece, so that there is a change between any two timesteps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    /// Negated timesteps, so that they rise as a run goes on; at least two, strictly rising.
    knots: Vec<f64>,
    /// Never falling, from 0.
    change: Vec<f64>,
}

impl Curve {
    /// From the timesteps in the order they are visited, which never rise, and the change from each to the
    /// next. What changes without a step in time is counted to the step after it or, at the end, before it.
    /// `None` where there is no step in time.
    pub(super) fn new(timesteps: &[f64], changes: &[f64]) -> Option<Self> {
        let (&first, rest) = timesteps.split_first()?;
        let (mut knots, mut change) = (vec![-first], vec![0.0]);
        let mut total = 0.0;
        for (&timestep, added) in rest.iter().zip(changes) {
            total += added;
            if knots.last().is_some_and(|&last| -timestep > last) {
                knots.push(-timestep);
                change.push(total);
            }
        }
        *change.last_mut()? = total;
        (knots.len() > 1).then_some(Self { knots, change })
    }

    /// The change from the first knot to `timestep`; negative above it.
    pub(super) fn at(&self, timestep: f64) -> f64 {
        lookup(-timestep, &self.knots, &self.change)
    }

    /// The timesteps between which it is linear, falling.
    pub(super) fn timesteps(&self) -> impl Iterator<Item = f64> {
        self.knots.iter().map(|knot| -knot)
    }
}

/// The value at `x` of the piecewise linear function through the points (`xs`, `ys`), at least two,
/// `xs` never falling; outside of them that of the nearest piece.
pub(super) fn lookup(x: f64, xs: &[f64], ys: &[f64]) -> f64 {
    // The piece that x ends, where x is a point.
    let end = xs.partition_point(|&point| point < x).clamp(1, xs.len() - 1);
    let (from, to) = (xs[end - 1], xs[end]);
    if from == to {
        return ys[end];
    }
    ys[end] + (ys[end] - ys[end - 1]) * ((x - to) / (to - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_linear_between_knots_and_goes_on_beyond_them() {
        let curve = Curve::new(&[100.0, 60.0, 20.0], &[1.0, 4.0]).unwrap();
        let expected = [(140.0, -1.0), (100.0, 0.0), (80.0, 0.5), (60.0, 1.0)];
        for (timestep, change) in expected.into_iter().chain([(30.0, 4.0), (20.0, 5.0), (0.0, 7.0)])
        {
            assert_eq!(curve.at(timestep), change, "{timestep}");
        }
    }

    #[test]
    fn change_without_a_step_in_time_is_counted_to_the_next() {
        // As Heun's method visits them, each timestep twice.
        let curve = Curve::new(&[100.0, 60.0, 60.0, 20.0, 20.0], &[1.0, 2.0, 4.0, 8.0]).unwrap();
        assert_eq!((curve.at(60.0), curve.at(20.0)), (1.0, 15.0));
        assert_eq!(curve.timesteps().collect::<Vec<_>>(), [100.0, 60.0, 20.0]);
        assert_eq!(Curve::new(&[5.0, 5.0], &[1.0]), None);
        assert_eq!(Curve::new(&[5.0], &[]), None);
        assert_eq!(Curve::new(&[], &[]), None);
    }
}
