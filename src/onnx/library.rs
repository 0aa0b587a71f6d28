//! The ONNX Runtime library: found by absolute path, checked before use, loaded once a process.
//!
//! With `library/`, the one place of this module with `unsafe`: it calls into a library that is not checked
//! yet.

pub(super) mod nvidia;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

use super::lookup::{Candidate, LIBRARY_VARIABLE, Origin, candidates};

/// The loaded runtime. One a process, never unloaded: its own threads and thread-local data may
/// outlive any session.
#[derive(Debug)]
pub(super) struct Runtime {
    environment: Environment,
    path: PathBuf,
    version: String,
}

impl Runtime {
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The file it was loaded from, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Such as `1.31.1`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The runtime, loaded on the first call that succeeds.
///
/// Looks at `given` alone; without it, at `DDPM_ONNXRUNTIME` alone; without that, beside our own
/// library and the executable, then in the project's cache, with `cuda` at a runtime that has it first. A failed call leaves nothing behind:
/// the same call fails the same way, and a call with a better path works.
///
/// Errors: `RuntimeLibrary`, with every place tried and what was wrong there; also where `given` is
/// not the file that is loaded already, since a process holds one. `OutOfMemory` where the process may
/// not map as much memory as the runtime takes to start.
pub(super) fn runtime(given: Option<&Path>, cuda: bool, log: &Logger) -> Result<&'static Runtime> {
    // A panic under the lock leaves no state of ours half made.
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = RUNTIME.get() {
        return match given {
            Some(path) if !same_file(path, &loaded.path) => Err(refuse(format!(
                "{}: this process already runs {} (ONNX Runtime {}), and can run only one",
                path.display(),
                loaded.path.display(),
                loaded.version
            ))),
            _ => Ok(loaded),
        };
    }
    check_room(ROOM_TO_START)?;
    find_unwinder();
    let loaded = find(given, cuda, log)?;
    log.log(
        LogLevel::Info,
        format!("ONNX Runtime {} from {}", loaded.version, loaded.path.display()),
    );
    Ok(RUNTIME.get_or_init(|| loaded))
}

/// Memory that the process must be able to map before the runtime is started. ONNX Runtime 1.31 takes
/// up to 131 MB, its file and its thread's heap among it; where there is less, its start ends in an error
/// or in the end of the process, depending on which of its allocations is the one that fails.
const ROOM_TO_START: usize = 160 << 20;

/// Memory that it must be able to map before a session is made, for its heap.
const ROOM_FOR_SESSION: usize = 64 << 20;

/// Asks for the room of a session. Errors: `OutOfMemory` where the process may not map that much.
pub(super) fn check_room_for_session() -> Result<()> {
    check_room(ROOM_FOR_SESSION)
}

/// Errors: `OutOfMemory`.
#[cfg(unix)]
fn check_room(bytes: usize) -> Result<()> {
    // SAFETY: a new mapping at an address of the system's choice, which nothing may touch, so it takes
    // no memory; it is given back at once and whole.
    let mapped = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        let start = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
        start != libc::MAP_FAILED && libc::munmap(start, bytes) == 0
    };
    if mapped {
        return Ok(());
    }
    let reason = std::io::Error::last_os_error();
    Err(Error::new(
        ErrorKind::OutOfMemory,
        format!(
            "ONNX Runtime: {} MB to start with could not be had: {reason}; if the process is limited (ulimit -v), raise that",
            bytes >> 20
        ),
    ))
}

/// Elsewhere processes are not limited in this way.
#[cfg(not(unix))]
fn check_room(_bytes: usize) -> Result<()> {
    Ok(())
}

/// Lets the C library find its unwinder now. glibc looks for it (`libgcc_s`, which is in memory
/// already) when the first exception of the runtime's passes through one of its own functions, and
/// ends the process where that fails, which it does when the exception says that memory has run out.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn find_unwinder() {
    let mut frame = std::ptr::null_mut();
    // SAFETY: room for one address, and the number says so.
    unsafe { libc::backtrace(&raw mut frame, 1) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn find_unwinder() {}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::RuntimeLibrary, message)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn find(given: Option<&Path>, cuda: bool, log: &Logger) -> Result<Runtime> {
    let mut tried = Vec::new();
    for candidate in candidates(given, &own_folders(), cuda) {
        let (origin, path) = match candidate {
            Candidate::File { origin, path } => (origin, path),
            Candidate::Nothing { place } => {
                tried.push(place);
                continue;
            }
        };
        let reason = match load(&path) {
            Ok(runtime) => return Ok(runtime),
            Err(reason) => format!("{}: {reason}", path.display()),
        };
        if origin.is_named() {
            let by = match origin {
                Origin::Variable => format!(" ({LIBRARY_VARIABLE})"),
                _ => String::new(),
            };
            return Err(refuse(format!("ONNX Runtime{by}: {reason}")));
        }
        log.log(LogLevel::Warning, format!("not usable as ONNX Runtime: {reason}"));
        tried.push(reason);
    }
    Err(refuse(format!(
        "ONNX Runtime was not found. Give its full path, or set {LIBRARY_VARIABLE}. Tried:\n  {}",
        tried.join("\n  ")
    )))
}

/// Checks the file, then hands it to `ort`. The text of an error goes behind the path.
fn load(path: &Path) -> std::result::Result<Runtime, String> {
    // A pipe or a device would block the loader.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err("not a file".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let version = check(path)?;
    let builder = ort::init_from(path)
        .map_err(|error| error.to_string())?
        .with_name("ddpm")
        .with_telemetry(false);
    let environment = quietly(|| builder.build())
        .map_err(|error| format!("ONNX Runtime {version} did not start: {error}"))?;
    Ok(Runtime { environment, path: path.to_owned(), version })
}

/// Variables that the runtime, and `ort`, look at while it starts. A library has nobody's consent to what
/// they stop: official builds send events to their maker, from a thread of their own, by way of a database
/// and a device id in the user's cache folder (what the API switches off is most of the events and none of
/// the rest); and what the runtime says outside of any session goes to standard error. A logger in its
/// place is none of ours to set: the runtime stays in the process when this library is unloaded.
const QUIET_START: [(&str, &str); 2] = [("ORT_DISABLE_TELEMETRY", "1"), ("ORT_LOG", "fatal")];

/// Calls `start` with the variables set that the user has not set to anything.
fn quietly<T>(start: impl FnOnce() -> T) -> T {
    let is_missing = |(name, _): &(&str, &str)| std::env::var_os(name).is_none();
    let missing: Vec<_> = QUIET_START.into_iter().filter(is_missing).collect();
    if missing.is_empty() { start() } else { with_variables(&missing, start) }
}

/// To set a variable where other threads may read one is a fault where the system has no lock for that:
/// the list they read may be moved. Here they read the old list or a longer one, and neither goes away.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn with_variables<T>(variables: &[(&str, &str)], start: impl FnOnce() -> T) -> T {
    use std::ffi::{CString, c_char};
    use std::sync::atomic::{AtomicPtr, Ordering};

    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    /// Keeps the longer list, which a thread may still be reading. Leak checkers look here, so it has to
    /// be there although nothing reads it.
    #[used]
    static SHOWN: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());

    // SAFETY: the C library's variable, aligned and never gone; it has no lock, so each access to it here
    // is one load or store, as in the C library itself.
    let place = unsafe { AtomicPtr::from_ptr(&raw mut environ) };
    let old = place.load(Ordering::SeqCst);
    let mut list = Vec::new();
    while !old.is_null() {
        // SAFETY: the list ends in a null, and is read up to there, as `getenv` does.
        let variable = unsafe { *old.add(list.len()) };
        if variable.is_null() {
            break;
        }
        list.push(variable);
    }
    let entries = variables.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
    list.extend(entries.flatten().map(CString::into_raw));
    list.push(std::ptr::null_mut());
    let longer = Box::leak(list.into_boxed_slice()).as_mut_ptr();
    SHOWN.store(longer, Ordering::SeqCst);
    place.store(longer, Ordering::SeqCst);
    let started = start();
    // Unless the host set a variable meanwhile, which made a list of its own.
    let _ = place.compare_exchange(longer, old, Ordering::SeqCst, Ordering::SeqCst);
    started
}

#[cfg(any(windows, target_vendor = "apple"))]
fn with_variables<T>(variables: &[(&str, &str)], start: impl FnOnce() -> T) -> T {
    for (name, value) in variables {
        // SAFETY: these systems have a lock for their environment, which everyone takes who reads it.
        unsafe { std::env::set_var(name, value) };
    }
    let started = start();
    for (name, _) in variables {
        // SAFETY: as above.
        unsafe { std::env::remove_var(name) };
    }
    started
}

/// The version of the library, if it is an ONNX Runtime that is new enough.
fn check(path: &Path) -> std::result::Result<String, String> {
    // SAFETY: loading runs the file's initialisers, which is the point of loading the file the user
    // named. The handle lives to the end of this function; `ort` then opens the file for itself.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|error| format!("not a library this system can load: {}", reason(&error, path)))?;
    // SAFETY: `OrtGetApiBase` has had this signature in every release; a library of another kind
    // that exports the name cannot be told apart by anyone.
    let base = unsafe {
        library
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
            .map_err(|_| "not an ONNX Runtime library: it has no OrtGetApiBase".to_owned())
            .map(|get| get())?
    };
    // SAFETY: the function returns null or a table with static lifetime.
    let Some(base) = (unsafe { base.as_ref() }) else {
        return Err("not a working ONNX Runtime library: OrtGetApiBase gives nothing".to_owned());
    };
    // SAFETY: the version is null or a static string that ends in NUL.
    let version = unsafe {
        let text = (base.GetVersionString)();
        if text.is_null() { None } else { Some(CStr::from_ptr(text)) }
    };
    let version = version.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    if !is_new_enough(&version) {
        return Err(format!(
            "ONNX Runtime {version} is too old, expected 1.{} or newer",
            ort::MINOR_VERSION
        ));
    }
    // SAFETY: any number may be asked for; null says that it is not served.
    if unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION) }.is_null() {
        return Err(format!(
            "ONNX Runtime {version} does not serve API version {}",
            ort::sys::ORT_API_VERSION
        ));
    }
    Ok(version)
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (1, ort::MINOR_VERSION)
}

/// The system's text, without the path that it starts with: the path is said already.
fn reason(error: &libloading::Error, path: &Path) -> String {
    let text = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).map(str::to_owned).unwrap_or(text)
}

/// The folder of the library this code is in, then that of the executable.
pub(super) fn own_folders() -> Vec<PathBuf> {
    let executable = std::env::current_exe().ok();
    let mut folders: Vec<PathBuf> = [own_library(), executable]
        .into_iter()
        .flatten()
        // The loader gives a program its own name as it was started, which may be relative.
        .filter(|path| path.is_absolute())
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    folders.dedup();
    folders
}

#[cfg(unix)]
fn own_library() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    let address = own_library as fn() -> Option<PathBuf> as *const libc::c_void;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` only compares the address and writes the struct, which zero is valid for.
    let info = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name is a string of the loader's that lives as long as this library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// Elsewhere only the executable's folder is looked at.
#[cfg(not(unix))]
fn own_library() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let minimum = ort::MINOR_VERSION;
        assert!(is_new_enough(&format!("1.{minimum}.0")));
        assert!(is_new_enough("1.100.0") && is_new_enough("2.0.0"));
        assert!(!is_new_enough(&format!("1.{}.9", minimum - 1)));
        assert!(!is_new_enough("1.9.1") && !is_new_enough("") && !is_new_enough("junk"));
    }

    #[cfg(unix)]
    #[test]
    fn our_own_library_is_a_file() {
        let folders = own_folders();
        assert!(!folders.is_empty());
        assert!(folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    }
}
