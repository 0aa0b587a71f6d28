//! Where a model, or the weights for one, come from.
//!
//! This module must not know what is in them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are somebody else's to keep.
pub(super) type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where a model comes from, or the weights for one.
#[derive(Clone)]
pub enum ModelSource {
    /// A file. A model's external data lies beside it or below.
    Path(PathBuf),
    /// The bytes of one, kept until the model is loaded. External data is looked for in
    /// [`OnnxOptions::external_data_dir`](super::OnnxOptions::external_data_dir) only.
    Bytes(Arc<[u8]>),
    /// The same, of bytes that have another owner: a mapped file, a resource of the program. They must stay
    /// as they are until the model is loaded.
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
    /// A file that the host serves, as from an archive or an encrypted asset; it serves the model's external
    /// data too. Nothing is written to disk but what a cache is asked for. All of it is in memory during the
    /// load, beside what ONNX Runtime makes of it, which takes no single tensor above 2 GiB so; from files it
    /// does. A `scheduler_config.json` is not asked for.
    Served {
        /// The name to open, as the host knows it.
        name: String,
        /// Opens it.
        files: Arc<dyn ModelFiles>,
    },
}

/// Files that a host serves: what a model is loaded from that lies in no file of its own.
///
/// Called on the thread that loads, one call at a time, and not any more once the load has ended.
pub trait ModelFiles: Send + Sync {
    /// Opens a file to read. The name is the model's own first; then, for its external data, that with its
    /// last part, what follows the last `/`, replaced by the location that the model has.
    ///
    /// Errors: whatever the host finds; the load fails with that text behind the name.
    fn open(&self, name: &str) -> io::Result<Box<dyn ModelFile>>;
}

/// One file that a host serves, open. Dropping it closes it.
pub trait ModelFile {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads from `offset` as many bytes as there is room for in `into`, or fewer but one; returns how many.
    ///
    /// Errors: whatever the host finds; the load fails with that text behind the name.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl ModelSource {
    /// How messages name it: its path, its name, or its size.
    pub fn name(&self) -> String {
        let in_memory = |size: usize| format!("model of {size} bytes in memory");
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes(bytes) => in_memory(bytes.len()),
            Self::Shared(bytes) => in_memory((**bytes).as_ref().len()),
            Self::Served { name, .. } => name.clone(),
        }
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for ModelSource {
    fn from(path: &P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}
