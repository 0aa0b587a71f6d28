//! The file callbacks: how a host serves a model from an archive, or encrypted, without a file of its own.

use std::ffi::{CString, c_char, c_void};
use std::io;

use super::guard::in_callback;
use crate::engine::{ModelFile, ModelFiles};

/// Opens a file for the load of a model. `name` is UTF-8 and good until the callback returns: that of
/// `ddpm_engine_desc.model_path` or `weights_path`; or, for external data of the model, that of the model with
/// its last part, what follows the last `/`, replaced by the location that the model gives, which never leads
/// up. Writes the file's size in bytes to `*size`, and to `*file` whatever the other two callbacks are to get
/// for it, NULL included. Returns 0; anything else says that it cannot be opened, is in the message of the load's
/// error, and `close_file` is then not called.
///
/// All three are called on the engine's worker thread, one at a time, while the model loads and not any more
/// once `ddpm_engine_wait` has returned something else than DDPM_TIMEOUT, or `ddpm_engine_destroy` has returned,
/// which waits for one that is running.
/// They must not call back into the library (such a call returns DDPM_ERROR_UNSUPPORTED), throw, or `longjmp`
/// out. A file is read from its beginning to its end; one is open at a time.
pub type ddpm_open_file_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        name: *const c_char,
        file: *mut *mut c_void,
        size: *mut u64,
    ) -> i32,
>;

/// Reads `size` bytes, at most a megabyte, from `offset` of a file to `destination`. Returns how many it wrote
/// there, 1 to `size`: the rest is asked for again. 0 says that the file ends there, which is an error as it is
/// before its size; below 0 is the host's own error number, which is in the message of the load's error.
pub type ddpm_read_file_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        file: *mut c_void,
        offset: u64,
        destination: *mut c_void,
        size: u64,
    ) -> i64,
>;

/// Closes a file that was opened.
pub type ddpm_close_file_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, file: *mut c_void)>;

/// The host's callbacks.
#[derive(Clone, Copy)]
pub(super) struct HostFiles {
    pub(super) open:
        unsafe extern "C" fn(*mut c_void, *const c_char, *mut *mut c_void, *mut u64) -> i32,
    pub(super) read: unsafe extern "C" fn(*mut c_void, *mut c_void, u64, *mut c_void, u64) -> i64,
    pub(super) close: ddpm_close_file_callback,
    pub(super) user_data: *mut c_void,
}

// SAFETY: function pointers are plain data, and `user_data` is never followed here, only handed back; the
// header tells the host that it is handed back on the worker thread.
unsafe impl Send for HostFiles {}
// SAFETY: as for Send; the engine calls from its one worker thread.
unsafe impl Sync for HostFiles {}

struct HostFile {
    files: HostFiles,
    file: *mut c_void,
    size: u64,
}

impl ModelFiles for HostFiles {
    fn open(&self, name: &str) -> io::Result<Box<dyn ModelFile>> {
        // A location with a NUL in it is of no file.
        let name = CString::new(name)?;
        let (mut file, mut size, mut failed) = (std::ptr::null_mut(), 0, 0);
        // SAFETY: the host gave a function of this signature that is callable, with its user_data, until the
        // load ends (contract of ddpm_engine_desc.open_file), which is when this value is dropped; the text and
        // the variables outlive the call.
        in_callback(|| unsafe {
            failed = (self.open)(self.user_data, name.as_ptr(), &raw mut file, &raw mut size);
        });
        match failed {
            0 => Ok(Box::new(HostFile { files: *self, file, size })),
            code => Err(io::Error::other(format!("open_file returned {code}, expected 0"))),
        }
    }
}

impl ModelFile for HostFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let (room, destination) = (into.len() as u64, into.as_mut_ptr().cast());
        let mut read = 0;
        // SAFETY: as in `open`; `file` is what the host gave there and was not closed since; `room` bytes at
        // `destination` are ours and writable.
        in_callback(|| unsafe {
            read = (self.files.read)(self.files.user_data, self.file, offset, destination, room);
        });
        let fault = || {
            io::Error::other(format!(
                "read_file returned {read} for {room} bytes at {offset}, expected 1 to {room}"
            ))
        };
        usize::try_from(read).ok().filter(|&read| read <= into.len()).ok_or_else(fault)
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if let Some(close) = self.files.close {
            // SAFETY: as in `open`; a file is closed once, here.
            in_callback(|| unsafe { close(self.files.user_data, self.file) });
        }
    }
}
