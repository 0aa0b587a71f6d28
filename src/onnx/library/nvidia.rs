//! Calls into NVIDIA's driver and its CUDA runtime: what device there is, how much memory it has, and
//! streams. Both are opened here and kept for the life of the process, as the provider keeps them.
//!
//! Beside `library.rs` in the home of `unsafe`. Nothing here makes a context current on a thread that is not
//! the caller's, and all callers are on the thread that runs the model.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;

use libloading::Library;
use ort::ep;

/// The library of the driver. It belongs to the kernel module, so the system's is the only right one, and
/// this is the only library that is opened by its bare name first.
pub(in crate::onnx) const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// A library that stays loaded.
pub(in crate::onnx) struct Loaded(ManuallyDrop<Library>);

impl Loaded {
    /// Loads by a path, or by a name that the system's loader resolves. Errors: the loader's text.
    pub(in crate::onnx) fn open(name: &OsStr) -> Result<Self, String> {
        // SAFETY: loading runs the file's initialisers, which is the point of loading what the user named
        // or the system has. It is never unloaded.
        match unsafe { Library::new(name) } {
            Ok(library) => Ok(Self(ManuallyDrop::new(library))),
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(source) => source.to_string(),
                None => error.to_string(),
            }),
        }
    }

    /// The library of this name if the process has it already, the host's own for one. Loads nothing.
    #[cfg(unix)]
    pub(in crate::onnx) fn find(name: &str) -> Option<Self> {
        use libloading::os::unix;
        let flags = unix::RTLD_LAZY | unix::RTLD_LOCAL | libc::RTLD_NOLOAD;
        // SAFETY: with RTLD_NOLOAD nothing is loaded and no initialiser runs.
        let found = unsafe { unix::Library::open(Some(name), flags) }.ok()?;
        Some(Self(ManuallyDrop::new(found.into())))
    }

    /// # Safety
    /// `T` is the type of the function pointer that the library exports under this name.
    unsafe fn function<T: Copy>(&self, name: &CStr) -> Result<T, String> {
        // SAFETY: by this function's contract; the library stays loaded, so the pointer does.
        match unsafe { self.0.get::<T>(name.to_bytes_with_nul()) } {
            Ok(function) => Ok(*function),
            Err(_) => Err(format!("has no {}", name.to_string_lossy())),
        }
    }
}

/// The driver, and how many devices it has.
pub(in crate::onnx) struct Driver {
    library: Loaded,
    /// The newest CUDA that it serves, as (major, minor).
    pub(in crate::onnx) serves: (u32, u32),
    pub(in crate::onnx) devices: u32,
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct DeviceFacts {
    pub(in crate::onnx) name: String,
    /// Bytes.
    pub(in crate::onnx) memory: u64,
}

/// Why there is no driver to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::onnx) enum NoDriver {
    /// The library cannot be loaded: the loader's text.
    Missing(String),
    /// It said no: number and name of the error.
    Refused(i32, String),
}

impl Driver {
    /// Makes no context.
    pub(in crate::onnx) fn open() -> Result<Self, NoDriver> {
        let library = Loaded::open(OsStr::new(DRIVER)).map_err(NoDriver::Missing)?;
        let lacks = |reason: String| NoDriver::Missing(format!("{DRIVER} {reason}"));
        let (mut version, mut devices) = (0, 0);
        // SAFETY: the signatures of the driver API, which have been these in every release; each writes
        // one int, which is ours. The version may be asked before cuInit.
        unsafe {
            let init: unsafe extern "C" fn(c_uint) -> c_int =
                library.function(c"cuInit").map_err(lacks)?;
            let get_version: unsafe extern "C" fn(*mut c_int) -> c_int =
                library.function(c"cuDriverGetVersion").map_err(lacks)?;
            let count: unsafe extern "C" fn(*mut c_int) -> c_int =
                library.function(c"cuDeviceGetCount").map_err(lacks)?;
            check(&library, get_version(&raw mut version))?;
            check(&library, init(0))?;
            check(&library, count(&raw mut devices))?;
        }
        let part = |value: c_int| u32::try_from(value).unwrap_or(0);
        let serves = (part(version / 1000), part(version % 1000 / 10));
        Ok(Self { library, serves, devices: part(devices) })
    }

    /// Name and memory of a device. Errors: the driver's text.
    pub(in crate::onnx) fn facts(&self, device: u32) -> Result<DeviceFacts, String> {
        const NAME: usize = 256;
        let mut name = [0u8; NAME];
        let (mut handle, mut memory) = (0, 0usize);
        let refused = |reason: NoDriver| match reason {
            NoDriver::Missing(text) => text,
            NoDriver::Refused(number, name) => format!("{name} ({number})"),
        };
        // SAFETY: the signatures of the driver API. The name is written with its NUL into the length that
        // is given; all else written is one value, and ours.
        unsafe {
            let get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int =
                self.library.function(c"cuDeviceGet")?;
            let get_name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int =
                self.library.function(c"cuDeviceGetName")?;
            let get_memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int =
                self.library.function(c"cuDeviceTotalMem_v2")?;
            check(&self.library, get(&raw mut handle, device as c_int)).map_err(refused)?;
            check(&self.library, get_name(name.as_mut_ptr().cast(), NAME as c_int - 1, handle))
                .map_err(refused)?;
            check(&self.library, get_memory(&raw mut memory, handle)).map_err(refused)?;
        }
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
        Ok(DeviceFacts {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            memory: memory as u64,
        })
    }
}

/// A result of the driver API, with its name where it is an error.
fn check(library: &Loaded, result: c_int) -> Result<(), NoDriver> {
    if result == 0 {
        return Ok(());
    }
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: the signature of the driver API; a known error's name is static, an unknown one's is null.
    let name = unsafe {
        let name: Result<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int, _> =
            library.function(c"cuGetErrorName");
        if let Ok(name) = name {
            name(result, &raw mut text);
        }
        if text.is_null() {
            None
        } else {
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    Err(NoDriver::Refused(result, name.unwrap_or_else(|| "unknown error".to_owned())))
}

/// The CUDA runtime, which the provider uses too.
pub(in crate::onnx) struct CudaRuntime(Loaded);

impl CudaRuntime {
    pub(in crate::onnx) fn new(library: Loaded) -> Self {
        Self(library)
    }

    /// Calls a function whose result is a `cudaError_t`. Errors: its name and its text.
    fn check(&self, what: &str, result: c_int) -> Result<(), String> {
        if result == 0 {
            return Ok(());
        }
        let text = |function: &CStr| {
            // SAFETY: both have this signature in every release, and give a static string for any number.
            unsafe {
                let get: Result<unsafe extern "C" fn(c_int) -> *const c_char, _> =
                    self.0.function(function);
                let text = get.map(|get| get(result)).unwrap_or(std::ptr::null());
                if text.is_null() { CString::default() } else { CStr::from_ptr(text).to_owned() }
            }
        };
        let (name, reason) = (text(c"cudaGetErrorName"), text(c"cudaGetErrorString"));
        let (name, reason) = (name.to_string_lossy(), reason.to_string_lossy());
        Err(format!("{what}: {name} ({result}), {reason}"))
    }

    /// Makes the device this thread's.
    pub(in crate::onnx) fn select(&self, device: u32) -> Result<(), String> {
        // SAFETY: the signature in every release.
        let result = unsafe {
            let set: unsafe extern "C" fn(c_int) -> c_int = self.0.function(c"cudaSetDevice")?;
            set(device as c_int)
        };
        self.check("cudaSetDevice", result)
    }

    /// Free and total memory in bytes of this thread's device.
    pub(in crate::onnx) fn memory(&self) -> Result<(u64, u64), String> {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: the signature in every release; writes two sizes, which are ours.
        let result = unsafe {
            let get: unsafe extern "C" fn(*mut usize, *mut usize) -> c_int =
                self.0.function(c"cudaMemGetInfo")?;
            get(&raw mut free, &raw mut total)
        };
        self.check("cudaMemGetInfo", result)?;
        Ok((free as u64, total as u64))
    }

    /// A stream on this thread's device, of the lowest priority that there is or of the highest.
    pub(in crate::onnx) fn stream(&self, high: bool) -> Result<ComputeStream, String> {
        /// Does not wait for the stream that everyone shares.
        const NON_BLOCKING: c_uint = 1;
        let (mut least, mut greatest) = (0, 0);
        let mut stream: *mut c_void = std::ptr::null_mut();
        // SAFETY: the signatures in every release; what is written is two ints and a pointer, all ours.
        unsafe {
            let range: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
                self.0.function(c"cudaDeviceGetStreamPriorityRange")?;
            let create: unsafe extern "C" fn(*mut *mut c_void, c_uint, c_int) -> c_int =
                self.0.function(c"cudaStreamCreateWithPriority")?;
            let destroy = self.0.function(c"cudaStreamDestroy")?;
            self.check(
                "cudaDeviceGetStreamPriorityRange",
                range(&raw mut least, &raw mut greatest),
            )?;
            let priority = if high { greatest } else { least };
            self.check(
                "cudaStreamCreateWithPriority",
                create(&raw mut stream, NON_BLOCKING, priority),
            )?;
            Ok(ComputeStream { stream, destroy: Some(destroy) })
        }
    }
}

/// The stream that a session's kernels go to. It has to outlive the session.
pub(in crate::onnx) struct ComputeStream {
    stream: *mut c_void,
    /// For a stream of ours.
    destroy: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
}

// SAFETY: CUDA's streams may be used and destroyed from any thread; it is a name, nothing of a thread's.
unsafe impl Send for ComputeStream {}

impl ComputeStream {
    /// The host's.
    pub(in crate::onnx) fn of_host(stream: HostStream) -> Self {
        Self { stream: stream.0 as *mut c_void, destroy: None }
    }

    /// Has the provider use it.
    pub(in crate::onnx) fn give_to(&self, cuda: ep::CUDA) -> ep::CUDA {
        // SAFETY: a stream of ours lives until the drop, which whoever holds it with a session puts off
        // until after that session's; a host's lives as long as `HostStream::new` demands.
        unsafe { cuda.with_compute_stream(self.stream.cast()) }
    }
}

impl Drop for ComputeStream {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: made by the function's own library, and destroyed once. CUDA lets what is still on it
            // finish. There is nobody to tell if it fails.
            unsafe { destroy(self.stream) };
        }
    }
}

/// A CUDA stream of the host's (`cudaStream_t`, `CUstream`) for the model to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStream(usize);

impl HostStream {
    /// # Safety
    /// `stream` is a stream of the device that the engine uses, not the null stream, and lives until the
    /// engine is closed, or the denoiser dropped.
    pub unsafe fn new(stream: *mut c_void) -> Self {
        Self(stream as usize)
    }
}
