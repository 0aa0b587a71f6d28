//! Optimised graphs kept on disk, so that a model that was loaded once loads faster.
//!
//! An entry is what ONNX Runtime wrote, with a trailer. It is used only if the trailer holds the hash of
//! all before it together with the entry's key; whatever else lies in its place is replaced. An entry
//! appears whole or not at all, so engines and processes may share a folder. Nothing that goes wrong here
//! is an error: the model is then loaded from its own file.

use std::fmt;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;
use twox_hash::XxHash3_128;

use super::fingerprint::{Fingerprint, hex};
use super::library::Runtime;

/// How names of entries begin and end, and of files that become one.
const ENTRY: (&str, &str) = ("ddpm-", ".graph");
const UNFINISHED: (&str, &str) = (".ddpm-", ".part");

/// Ends every entry.
const MAGIC: [u8; 8] = *b"ddpmgrf1";
const TRAILER: usize = size_of::<u128>() + MAGIC.len();

/// After this long nobody goes on writing a file.
const ABANDONED: Duration = Duration::from_hours(24);

/// What the cache of optimised graphs did for a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// There is no cache folder.
    #[default]
    Off,
    /// The optimised graph was taken from it.
    Hit,
    /// The model was optimised, and the graph put into it for the next load.
    Written,
    /// The model was optimised, and the graph could not be kept: why.
    Unused(String),
}

impl fmt::Display for CacheUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Hit => f.write_str("hit"),
            Self::Written => f.write_str("written"),
            Self::Unused(reason) => write!(f, "unused: {reason}"),
        }
    }
}

/// The place of one model in a cache folder.
pub(super) struct Cache<'a> {
    folder: &'a Path,
    key: String,
}

impl<'a> Cache<'a> {
    /// Of a model on the CPU, optimised as far as it goes. Everything that decides how the graph comes out
    /// is in the key; the number of threads does not. Entries under other keys are left alone.
    pub(super) fn new(folder: &'a Path, fingerprint: &Fingerprint, runtime: &Runtime) -> Self {
        let library = fs::metadata(runtime.path()).ok();
        let modified = library.as_ref().and_then(|found| found.modified().ok());
        let facts = format!(
            "libddpm {}\nmodel {}\nruntime {} {:?} {:?}\nmachine {} {} {}\nCPU, all optimisations\n",
            env!("CARGO_PKG_VERSION"),
            fingerprint.hex,
            runtime.version(),
            library.map(|found| found.len()),
            modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()),
            std::env::consts::OS,
            std::env::consts::ARCH,
            cpu_features(),
        );
        Self { folder, key: hex(XxHash3_128::oneshot(facts.as_bytes())) }
    }

    /// Where the entry is, or would be.
    pub(super) fn entry(&self) -> PathBuf {
        self.folder.join(format!("{}{}{}", ENTRY.0, self.key, ENTRY.1))
    }

    /// The bytes of the model with the optimised graph, checked; none where there is no entry. Errors: why
    /// what is there is not to be used.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        let path = self.entry();
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err("not a file".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        let mut bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let content = bytes.len().checked_sub(TRAILER).filter(|&content| content > 0);
        let content = content.ok_or_else(|| format!("{} bytes long, cut off", bytes.len()))?;
        let (content, trailer) = bytes.split_at(content);
        let mut hash = XxHash3_128::new();
        hash.write(content);
        if trailer != self.trailer(hash) {
            return Err("damaged, or of another key".to_owned());
        }
        let content = content.len();
        bytes.truncate(content);
        Ok(Some(bytes))
    }

    /// A new file for the runtime to write the model with the optimised graph to. It is gone when the
    /// value is, unless it became the entry. Makes the folder where there is none.
    pub(super) fn begin(&self) -> Result<NamedTempFile, String> {
        fs::create_dir_all(self.folder).map_err(|error| error.to_string())?;
        self.remove_abandoned();
        let mut file = tempfile::Builder::new();
        file.prefix(UNFINISHED.0).suffix(UNFINISHED.1);
        file.tempfile_in(self.folder).map_err(|error| error.to_string())
    }

    /// Makes what the runtime wrote the entry.
    pub(super) fn finish(&self, mut file: NamedTempFile) -> Result<(), String> {
        let mut write = || {
            let file = file.as_file_mut();
            file.seek(SeekFrom::Start(0))?;
            let mut hash = XxHash3_128::new();
            let mut block = vec![0; 1 << 20];
            let mut length = 0;
            loop {
                match file.read(&mut block) {
                    Ok(0) => break,
                    Ok(read) => {
                        hash.write(&block[..read]);
                        length += read;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if length == 0 {
                return Err(std::io::Error::other("the runtime wrote nothing"));
            }
            file.write_all(&self.trailer(hash))?;
            file.sync_all()
        };
        write().map_err(|error| error.to_string())?;
        let entry = self.entry();
        // A file takes the place of a file and of nothing else.
        if entry.is_dir() {
            let _ = fs::remove_dir(&entry);
        }
        file.persist(&entry).map(|_| ()).map_err(|error| error.error.to_string())
    }

    /// What follows content of this hash.
    fn trailer(&self, mut content: XxHash3_128) -> [u8; TRAILER] {
        content.write(self.key.as_bytes());
        let mut trailer = [0; TRAILER];
        let (hash, magic) = trailer.split_at_mut(size_of::<u128>());
        hash.copy_from_slice(&content.finish_128().to_be_bytes());
        magic.copy_from_slice(&MAGIC);
        trailer
    }

    /// What a process left behind that was ended while it wrote.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1));
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            if is_ours && age().is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What the runtime's choice of kernels and layouts goes by.
fn cpu_features() -> String {
    let mut names = Vec::new();
    macro_rules! look {
        ($detected:ident: $($name:tt)*) => {
            $(if std::arch::$detected!($name) { names.push($name); })*
        };
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    look!(is_x86_feature_detected: "sse4.1" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw"
        "avx512dq" "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    look!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve" "sve2");
    names.join(" ")
}
