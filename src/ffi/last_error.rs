//! The text of a thread's last error.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Replaces this thread's message.
pub(super) fn set_last_error(message: &str) {
    let text = to_c_text(message);
    // `try_with` fails only in a thread that is past its own end; there is nobody left to ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(Some(text)));
}

/// A C string of `text`. A NUL inside, which C would take for the end, becomes the replacement
/// character.
pub(super) fn to_c_text(text: &str) -> CString {
    CString::new(text)
        .unwrap_or_else(|_| CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default())
}

/// The message of the last error on the calling thread: what is wrong, what was found, what was
/// expected. UTF-8, one or more lines, without a newline at the end.
///
/// Never NULL; "" before the first error. The text stays valid, and stays the same, until the next
/// call on this thread that returns an error, or the thread's end. Calls that succeed leave it as it
/// is. Does not block or allocate. Any thread, and the log callback too.
#[unsafe(no_mangle)]
pub extern "C" fn ddpm_last_error() -> *const c_char {
    const NOTHING: &CStr = c"";
    let text = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|text| text.as_ptr()));
    text.ok().flatten().unwrap_or(NOTHING.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> String {
        // SAFETY: the pointer is to a NUL-terminated text that lives until this thread's next error.
        unsafe { CStr::from_ptr(ddpm_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn message_is_per_thread_and_nul_inside_does_not_cut_it() {
        assert_eq!(read(), "");
        set_last_error("model: found \"a\0b\"");
        assert_eq!(read(), "model: found \"a\u{FFFD}b\"");
        std::thread::spawn(|| assert_eq!(read(), "")).join().unwrap();
    }
}
