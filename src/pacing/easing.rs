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
