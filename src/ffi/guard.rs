//! What every entry point passes through: no panic leaves, no NULL is followed, the host's floating-point
//! state does not matter, and the host's callbacks cannot call back in.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::float_state::with_own;
use super::last_error::set_last_error;
use super::result::{code_of, ddpm_result};
use crate::error::{Error, ErrorKind, Result};

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of the C function `function`; an error becomes its code and this thread's last
/// error. Allocates on errors only.
pub(super) fn guard(function: &str, body: impl FnOnce() -> Result<ddpm_result>) -> ddpm_result {
    // A body that panicked never touches its captures again, and the engine's own state is behind
    // locks that do not poison, so nothing half-changed can be seen.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if IN_CALLBACK.get() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "called from inside the log callback or a file callback, which must not call back into the library",
            ));
        }
        with_own(body)
    }));
    let error = match outcome {
        Ok(Ok(result)) => return result,
        Ok(Err(error)) => error,
        Err(panic) => Error::new(ErrorKind::Internal, format!("panic: {}", panic_text(&*panic))),
    };
    set_last_error(&format!("{function}: {error}"));
    code_of(error.kind())
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Runs the host's callback; until it returns, entry points called on this thread refuse.
pub(super) fn in_callback(callback: impl FnOnce()) {
    let outer = IN_CALLBACK.replace(true);
    callback();
    IN_CALLBACK.set(outer);
}

/// The error for a NULL where `argument` was wanted.
pub(super) fn null(argument: &str) -> Error {
    Error::invalid_argument(format!("{argument}: found NULL, expected a valid pointer"))
}

/// Follows a handle or an input pointer.
///
/// # Safety
/// `pointer` is NULL or valid for reads for the length of the C call.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, argument: &str) -> Result<&'a T> {
    // SAFETY: valid unless NULL, by this function's contract; NULL gives None.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(argument))
}

/// Reads a C string that may be left out: NULL gives None.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that stays as it is for the length of the C call.
pub(super) unsafe fn optional_text<'a>(
    text: *const c_char,
    field: &str,
) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so a terminated string by this function's contract.
    let bytes = unsafe { CStr::from_ptr(text) };
    let text = bytes.to_str().map_err(|error| {
        let (found, at) = (bytes.to_string_lossy(), error.valid_up_to());
        Error::invalid_argument(format!(
            "{field}: found \"{found}\", not UTF-8 from byte {at} on, expected UTF-8"
        ))
    })?;
    Ok(Some(text))
}

/// Reads a C string that has to be there.
///
/// # Safety
/// As for `optional_text`.
pub(super) unsafe fn required_text<'a>(text: *const c_char, argument: &str) -> Result<&'a str> {
    // SAFETY: by this function's contract.
    unsafe { optional_text(text, argument) }?.ok_or_else(|| null(argument))
}

/// The number of values of `each` bytes, as this machine counts them.
pub(super) fn address_size(argument: &str, values: u64, each: usize) -> Result<usize> {
    let most = isize::MAX as usize / each;
    usize::try_from(values).ok().filter(|&values| values <= most).ok_or_else(|| {
        Error::invalid_argument(format!("{argument}: found {values}, expected at most {most}"))
    })
}

/// Reads an enum-like field: `choices` are its accepted values, with their C names.
pub(super) fn choose<T: Copy>(field: &str, found: u32, choices: &[(u32, &str, T)]) -> Result<T> {
    if let Some((_, _, choice)) = choices.iter().find(|(value, _, _)| *value == found) {
        return Ok(*choice);
    }
    let names: Vec<String> =
        choices.iter().map(|(value, name, _)| format!("{name} ({value})")).collect();
    Err(Error::invalid_argument(format!(
        "{field}: found {found}, expected one of {}",
        names.join(", ")
    )))
}

/// Checks a field that must stay zero, and says why.
pub(super) fn expect_zero(field: &str, found: u64, why: &str) -> Result<()> {
    if found == 0 {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("{field}: found {found}, expected 0 {why}")))
}

#[cfg(test)]
mod tests {
    use super::super::last_error::ddpm_last_error;
    use super::super::result::{DDPM_ERROR_INTERNAL, DDPM_ERROR_UNSUPPORTED, DDPM_OK};
    use super::*;

    fn last_error() -> String {
        // SAFETY: a NUL-terminated text that lives until this thread's next error.
        unsafe { CStr::from_ptr(ddpm_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panic_becomes_an_internal_error_with_its_text() {
        assert_eq!(guard("ddpm_step", || panic!("row {} of 3", 4)), DDPM_ERROR_INTERNAL);
        assert_eq!(last_error(), "ddpm_step: panic: row 4 of 3");
    }

    #[test]
    fn entry_points_refuse_inside_a_callback_and_work_again_after_it() {
        let mut inside = 0;
        in_callback(|| inside = guard("ddpm_step", || Ok(DDPM_OK)));
        assert_eq!(inside, DDPM_ERROR_UNSUPPORTED);
        assert!(last_error().contains("log callback"), "{}", last_error());
        assert_eq!(guard("ddpm_step", || Ok(DDPM_OK)), DDPM_OK);
    }

    #[test]
    fn unknown_choice_names_field_value_and_what_is_accepted() {
        let choices = [(0, "DDPM_SAMPLER_DEFAULT", 'a'), (1, "DDPM_SAMPLER_DDPM", 'b')];
        assert_eq!(choose("sampler", 1, &choices).unwrap(), 'b');
        assert_eq!(
            choose("sampler", 7, &choices).unwrap_err().message(),
            "sampler: found 7, expected one of DDPM_SAMPLER_DEFAULT (0), DDPM_SAMPLER_DDPM (1)"
        );
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_by_name() {
        // SAFETY: a terminated literal.
        let error = unsafe { optional_text(c"mod\xFFel".as_ptr(), "model_path") }.unwrap_err();
        assert!(
            error.message().starts_with("model_path: ") && error.message().contains("byte 3"),
            "{error}"
        );
    }
}
