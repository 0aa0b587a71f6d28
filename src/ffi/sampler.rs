//! Samplers by number and by name, and what the fields of `ddpm_stream_desc` that set one may hold.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use super::guard::{guard, null, required_text};
use super::last_error::to_c_text;
use super::result::{DDPM_OK, ddpm_result};
use crate::error::{Error, Result};
use crate::sampler::{FinalAlpha, Sampler, SigmaSpacing, SolverType, VarianceType};
use crate::timesteps::TimestepSpacing;

/// `sampler`: the model's own, DDPM unless its files say otherwise. The others are `ddpm_sampler`.
pub const DDPM_SAMPLER_DEFAULT: u32 = 0;

/// `spacing`: the model's own, trailing unless its files say otherwise.
pub const DDPM_SPACING_DEFAULT: u32 = 0;
/// Counts up from the clean end in whole strides.
pub const DDPM_SPACING_LEADING: u32 = 1;
/// Counts down from the noisy end, which it always includes.
pub const DDPM_SPACING_TRAILING: u32 = 2;
/// Evenly from the clean end to the noisy end, both included.
pub const DDPM_SPACING_LINSPACE: u32 = 3;

/// `sigmas`: the model's own, those of the timesteps unless its files say otherwise.
pub const DDPM_SIGMAS_DEFAULT: u32 = 0;
/// The noise levels are those of the timesteps.
pub const DDPM_SIGMAS_TIMESTEPS: u32 = 1;
/// The noise levels are even in sigma^(1/7) (Karras et al. 2022, eq. 5), and the timesteps follow.
pub const DDPM_SIGMAS_KARRAS: u32 = 2;
/// The noise levels are even in the logarithm of sigma, and the timesteps follow.
pub const DDPM_SIGMAS_EXPONENTIAL: u32 = 3;

/// `final_alpha`: the model's own, one unless its files say otherwise.
pub const DDPM_FINAL_ALPHA_DEFAULT: u32 = 0;
/// The last step goes to the clean picture, alpha_bar 1.
pub const DDPM_FINAL_ALPHA_ONE: u32 = 1;
/// The last step goes to timestep 0 (diffusers' `set_alpha_to_one = false`, Stable Diffusion).
pub const DDPM_FINAL_ALPHA_FIRST: u32 = 2;

/// `solver_type`: the model's own, else the sampler's.
pub const DDPM_SOLVER_DEFAULT: u32 = 0;
/// DPM-Solver++: the second-order term by the midpoint rule, its default.
pub const DDPM_SOLVER_MIDPOINT: u32 = 1;
/// DPM-Solver++: the second-order term by Heun's rule.
pub const DDPM_SOLVER_HEUN: u32 = 2;
/// UniPC with B_1(h) = h.
pub const DDPM_SOLVER_BH1: u32 = 3;
/// UniPC with B_2(h) = e^h - 1, its default.
pub const DDPM_SOLVER_BH2: u32 = 4;

/// `clip`: the model's own.
pub const DDPM_CLIP_DEFAULT: u32 = 0;
/// The predicted picture is used as it is.
pub const DDPM_CLIP_OFF: u32 = 1;
/// The predicted picture is held to -clip_range .. clip_range.
pub const DDPM_CLIP_RANGE: u32 = 2;
/// Dynamic thresholding (Saharia et al. 2022, section 2.3): with s the `dynamic_ratio` quantile of
/// the predicted picture's magnitudes, from 1 to `dynamic_max`, the picture is held to -s .. s and
/// divided by s.
pub const DDPM_CLIP_DYNAMIC: u32 = 3;

/// `variance_type`: the model's own.
pub const DDPM_VARIANCE_DEFAULT: u32 = 0;
/// DDPM's noise has the variance of the posterior.
pub const DDPM_VARIANCE_FIXED_SMALL: u32 = 1;
/// DDPM's noise has the variance beta.
pub const DDPM_VARIANCE_FIXED_LARGE: u32 = 2;
/// The model gives the logarithm of the variance.
pub const DDPM_VARIANCE_LEARNED: u32 = 3;
/// The model chooses between both fixed ones (Nichol and Dhariwal 2021, eq. 15).
pub const DDPM_VARIANCE_LEARNED_RANGE: u32 = 4;

/// A switch, such as `lower_order_final`: the model's own.
pub const DDPM_SWITCH_DEFAULT: u32 = 0;
/// Off.
pub const DDPM_SWITCH_OFF: u32 = 1;
/// On.
pub const DDPM_SWITCH_ON: u32 = 2;

/// Accepted values of a field, with their names in C; `None` is the model's own.
pub(super) type Choices<T, const N: usize> = [(u32, &'static str, Option<T>); N];

pub(super) const SPACINGS: Choices<TimestepSpacing, 4> = [
    (DDPM_SPACING_DEFAULT, "DDPM_SPACING_DEFAULT", None),
    (DDPM_SPACING_LEADING, "DDPM_SPACING_LEADING", Some(TimestepSpacing::Leading)),
    (DDPM_SPACING_TRAILING, "DDPM_SPACING_TRAILING", Some(TimestepSpacing::Trailing)),
    (DDPM_SPACING_LINSPACE, "DDPM_SPACING_LINSPACE", Some(TimestepSpacing::Linspace)),
];

pub(super) const SIGMAS: Choices<SigmaSpacing, 4> = [
    (DDPM_SIGMAS_DEFAULT, "DDPM_SIGMAS_DEFAULT", None),
    (DDPM_SIGMAS_TIMESTEPS, "DDPM_SIGMAS_TIMESTEPS", Some(SigmaSpacing::Timesteps)),
    (DDPM_SIGMAS_KARRAS, "DDPM_SIGMAS_KARRAS", Some(SigmaSpacing::Karras)),
    (DDPM_SIGMAS_EXPONENTIAL, "DDPM_SIGMAS_EXPONENTIAL", Some(SigmaSpacing::Exponential)),
];

pub(super) const FINAL_ALPHAS: Choices<FinalAlpha, 3> = [
    (DDPM_FINAL_ALPHA_DEFAULT, "DDPM_FINAL_ALPHA_DEFAULT", None),
    (DDPM_FINAL_ALPHA_ONE, "DDPM_FINAL_ALPHA_ONE", Some(FinalAlpha::One)),
    (DDPM_FINAL_ALPHA_FIRST, "DDPM_FINAL_ALPHA_FIRST", Some(FinalAlpha::First)),
];

pub(super) const SOLVERS: Choices<SolverType, 5> = [
    (DDPM_SOLVER_DEFAULT, "DDPM_SOLVER_DEFAULT", None),
    (DDPM_SOLVER_MIDPOINT, "DDPM_SOLVER_MIDPOINT", Some(SolverType::Midpoint)),
    (DDPM_SOLVER_HEUN, "DDPM_SOLVER_HEUN", Some(SolverType::Heun)),
    (DDPM_SOLVER_BH1, "DDPM_SOLVER_BH1", Some(SolverType::Bh1)),
    (DDPM_SOLVER_BH2, "DDPM_SOLVER_BH2", Some(SolverType::Bh2)),
];

pub(super) const VARIANCES: Choices<VarianceType, 5> = [
    (DDPM_VARIANCE_DEFAULT, "DDPM_VARIANCE_DEFAULT", None),
    (DDPM_VARIANCE_FIXED_SMALL, "DDPM_VARIANCE_FIXED_SMALL", Some(VarianceType::FixedSmall)),
    (DDPM_VARIANCE_FIXED_LARGE, "DDPM_VARIANCE_FIXED_LARGE", Some(VarianceType::FixedLarge)),
    (DDPM_VARIANCE_LEARNED, "DDPM_VARIANCE_LEARNED", Some(VarianceType::Learned)),
    (DDPM_VARIANCE_LEARNED_RANGE, "DDPM_VARIANCE_LEARNED_RANGE", Some(VarianceType::LearnedRange)),
];

pub(super) const SWITCHES: Choices<bool, 3> = [
    (DDPM_SWITCH_DEFAULT, "DDPM_SWITCH_DEFAULT", None),
    (DDPM_SWITCH_OFF, "DDPM_SWITCH_OFF", Some(false)),
    (DDPM_SWITCH_ON, "DDPM_SWITCH_ON", Some(true)),
];

/// The sampler with this number; `None` for the model's own.
pub(super) fn sampler_of(field: &str, number: u32) -> Result<Option<Sampler>> {
    if number == DDPM_SAMPLER_DEFAULT {
        return Ok(None);
    }
    let found = Sampler::ALL.into_iter().find(|&sampler| sampler as u32 == number);
    found.map(Some).ok_or_else(|| {
        let known = Sampler::ALL.map(|sampler| format!("{sampler} ({})", sampler as u32));
        Error::invalid_argument(format!(
            "{field}: found {number}, expected one of DDPM_SAMPLER_DEFAULT (0), {}",
            known.join(", ")
        ))
    })
}

/// The name of a sampler, such as "ddim" or "dpmpp"; NULL for a number that no sampler has,
/// `DDPM_SAMPLER_DEFAULT` among them. Counting up from 1 to the first NULL lists them all.
///
/// The text lives as long as the library is loaded. Does not block; allocates the names on the first
/// call. Any thread, and the log callback too.
#[unsafe(no_mangle)]
pub extern "C" fn ddpm_sampler_name(sampler: u32) -> *const c_char {
    static NAMES: OnceLock<Vec<(u32, CString)>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        Sampler::ALL.into_iter().map(|known| (known as u32, to_c_text(known.name()))).collect()
    });
    let found = names.iter().find(|(number, _)| *number == sampler);
    found.map_or(std::ptr::null(), |(_, name)| name.as_ptr())
}

/// The sampler with this name, and the solver order that the name stands for: "dpmpp" gives
/// `DDPM_SAMPLER_DPMPP` and 0, "dpmpp-3m" gives it with 3. Both are for the fields of
/// `ddpm_stream_desc`.
///
/// `*sampler` and `*order` are written on success only; `order` may be NULL. Does not block or
/// allocate, except for the message of an error, which lists the names there are. Any thread.
/// Errors: INVALID_ARGUMENT for a NULL or an unknown name.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_sampler_from_name(
    name: *const c_char,
    sampler: *mut u32,
    order: *mut u32,
) -> ddpm_result {
    guard("ddpm_sampler_from_name", || {
        // SAFETY: the host passes NULL or a terminated string.
        let name = unsafe { required_text(name, "name") }?;
        if sampler.is_null() {
            return Err(null("sampler"));
        }
        let (found, found_order) = Sampler::with_order(name)?;
        // SAFETY: not NULL, so the host's variable.
        unsafe { sampler.write(found as u32) };
        if !order.is_null() {
            // SAFETY: not NULL, so the host's variable.
            unsafe { order.write(found_order.unwrap_or(0)) };
        }
        Ok(DDPM_OK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn every_sampler_is_found_by_number_and_the_numbers_have_no_gap() {
        for (index, sampler) in Sampler::ALL.into_iter().enumerate() {
            let number = index as u32 + 1;
            assert_eq!(sampler as u32, number, "{sampler}");
            assert_eq!(sampler_of("desc.sampler", number).unwrap(), Some(sampler));
            // SAFETY: a terminated string that lives as long as the program.
            let name = unsafe { CStr::from_ptr(ddpm_sampler_name(number)) };
            assert_eq!(name.to_str().unwrap(), sampler.name());
        }
        let beyond = Sampler::ALL.len() as u32 + 1;
        for number in [0, beyond, u32::MAX] {
            assert!(ddpm_sampler_name(number).is_null());
        }
        assert_eq!(sampler_of("desc.sampler", 0).unwrap(), None);
        let error = sampler_of("desc.sampler", beyond).unwrap_err();
        assert!(error.message().starts_with("desc.sampler: found"), "{error}");
        assert!(error.message().contains("DDPM_SAMPLER_DEFAULT (0), ddpm (1)"), "{error}");
    }

    #[test]
    fn every_value_of_a_setting_has_a_number() {
        fn all<T: PartialEq + Copy + std::fmt::Debug, const N: usize>(
            choices: &Choices<T, N>,
            values: &[T],
        ) {
            for (index, (number, name, value)) in choices.iter().enumerate() {
                assert_eq!(*number as usize, index, "{name}");
                assert_eq!(value.is_none(), index == 0, "{name}");
            }
            for value in values {
                assert!(choices.iter().any(|(_, _, choice)| *choice == Some(*value)), "{value:?}");
            }
        }
        all(&SIGMAS, SigmaSpacing::ALL);
        all(&SOLVERS, SolverType::ALL);
        all(&FINAL_ALPHAS, &[FinalAlpha::One, FinalAlpha::First]);
        // The logarithmic ones are the others under another name.
        let variances = VarianceType::ALL.iter().filter(|kind| !kind.name().ends_with("log"));
        all(&VARIANCES, &variances.copied().collect::<Vec<_>>());
    }
}
