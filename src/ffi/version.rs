//! Versions of the library and of its ABI.

use std::ffi::{CStr, c_char};

/// The version of this header's ABI. It grows when a caller compiled against an older header would
/// break; new functions, and new fields at the end of a struct, do not change it.
pub const DDPM_ABI_VERSION: u32 = 1;

/// The version comes from Cargo.toml, the one place that states it.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the package's version holds a NUL"),
    };

/// The ABI version of the loaded library. A host that loads the library at run time compares it
/// with `DDPM_ABI_VERSION` before it calls anything else.
///
/// Does not block or allocate. Any thread, and the log callback too.
#[unsafe(no_mangle)]
pub extern "C" fn ddpm_abi_version() -> u32 {
    DDPM_ABI_VERSION
}

/// The version of the loaded library, such as "0.1.0".
///
/// Never NULL; the text lives as long as the library is loaded. Does not block or allocate. Any
/// thread, and the log callback too.
#[unsafe(no_mangle)]
pub extern "C" fn ddpm_version() -> *const c_char {
    VERSION.as_ptr()
}
