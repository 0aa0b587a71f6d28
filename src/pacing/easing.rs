//! Easing curves: how much of a reveal is shown when a share of its time is over.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How the shown share of a reveal grows with time.
///
/// The cubic curves are those of Penner 2002 ("Robert Penner's Programming Macromedia Flash MX",
/// chapter 7), but `EaseInOut` is smoothstep (the RenderMan Interface 3.1, section 15.1): the cubic that
/// starts and ends at rest, without a break in its middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Easing {
    /// At one pace.
    #[default]
    Linear,
    /// Slow at first, fast at the end: t^3.
    EaseIn,
    /// Fast at first, slow at the end: 1 - (1 - t)^3.
    EaseOut,
    /// Slow at both ends: 3 t^2 - 2 t^3.
    EaseInOut,
}

impl Easing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Linear, Self::EaseIn, Self::EaseOut, Self::EaseInOut];

    /// The name, as CSS has it (CSS Easing Functions Level 1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::EaseIn => "ease-in",
            Self::EaseOut => "ease-out",
            Self::EaseInOut => "ease-in-out",
        }
    }

    /// The shown share, 0 to 1, when the share `x` of the time is over. Never falls; 0 up to x = 0 and
    /// for NaN, 1 from x = 1.
    pub fn at(self, x: f64) -> f64 {
        if x.is_nan() {
            return 0.0;
        }
        let t = x.clamp(0.0, 1.0);
        let share = match self {
            Self::Linear => t,
            Self::EaseIn => t * t * t,
            Self::EaseOut => 1.0 - (1.0 - t) * (1.0 - t) * (1.0 - t),
            Self::EaseInOut => t * t * (3.0 - 2.0 * t),
        };
        // The last bit of a product may lie above 1.
        share.min(1.0)
    }
}

impl FromStr for Easing {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|easing| easing.name() == name).ok_or_else(|| {
            Error::invalid_argument(format!(
                "easing: found \"{name}\", expected one of {}",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

impl fmt::Display for Easing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_those_of_their_formulas() {
        let at = |easing: Easing| [0.25, 0.5, 0.75].map(|x| easing.at(x));
        assert_eq!(at(Easing::Linear), [0.25, 0.5, 0.75]);
        assert_eq!(at(Easing::EaseIn), [1.0 / 64.0, 0.125, 27.0 / 64.0]);
        assert_eq!(at(Easing::EaseOut), [37.0 / 64.0, 0.875, 63.0 / 64.0]);
        assert_eq!(at(Easing::EaseInOut), [10.0 / 64.0, 0.5, 54.0 / 64.0]);
    }

    #[test]
    fn curves_rise_from_0_to_1_and_stay_there() {
        for easing in Easing::ALL {
            let mut last = 0.0;
            for x in 0..=10_000 {
                let share = easing.at(f64::from(x) / 10_000.0);
                assert!((last..=1.0).contains(&share), "{easing} at {x}: {share} after {last}");
                last = share;
            }
            assert_eq!((easing.at(0.0), last), (0.0, 1.0));
            let outside = [-1.0, f64::NEG_INFINITY, f64::NAN, 1.5, f64::INFINITY];
            assert_eq!(outside.map(|x| easing.at(x)), [0.0, 0.0, 0.0, 1.0, 1.0], "{easing}");
        }
    }

    #[test]
    fn names_go_both_ways() {
        for easing in Easing::ALL {
            assert_eq!(easing.name().parse(), Ok(easing));
        }
        let error = "ease".parse::<Easing>().unwrap_err();
        let expected = "expected one of linear, ease-in, ease-out, ease-in-out";
        assert_eq!(error.message(), format!("easing: found \"ease\", {expected}"));
    }
}
