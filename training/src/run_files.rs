//! The files of a run, all in one folder, which is one run's at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::output::PARTIAL;

/// Their names.
pub struct RunFiles {
    pub folder: PathBuf,
}

/// The right to write to a run's folder. It ends with the program, however that ends.
pub struct Claim {
    _locked: File,
}

impl RunFiles {
    /// Makes the folder where it is not there, and claims it: two runs would mix their files. What a run
    /// that was killed left half written is removed.
    ///
    /// Errors: where another run has claimed it.
    pub fn claim(&self) -> Result<Claim> {
        let shown = self.folder.display();
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {shown}"))?;
        let path = self.lock();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever comes next; nothing hangs on it.
                let process = std::process::id();
                let _ = file.set_len(0).and_then(|()| write!(file, "{process}"));
            }
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "{shown}: another run is writing there (process {}); stop it, wait for it, or \
                     choose another folder with --out",
                    if process.is_empty() { "not known" } else { &process }
                );
            }
            // Not every file system has locks.
            Err(TryLockError::Error(_)) => {}
        }
        self.remove_partial()?;
        Ok(Claim { _locked: file })
    }

    fn remove_partial(&self) -> Result<()> {
        let is_left = |name: &String| {
            let parts: Vec<&str> = name.split('.').collect();
            let [stem, _, process, PARTIAL] = parts[..] else { return false };
            let is_own = ["checkpoint", "loss", "progress"].contains(&stem);
            (is_own || stem.starts_with("samples_")) && process.parse::<u32>().is_ok()
        };
        let names = self.names()?;
        names
            .iter()
            .filter(|name| is_left(name))
            .try_for_each(|name| remove(&self.folder.join(name)))
    }

    /// What a run holds as long as it goes on.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// The newest state.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    /// A state kept for later (`report.keep_checkpoints`).
    pub fn kept_checkpoint(&self, step: usize) -> PathBuf {
        self.folder.join(format!("checkpoint_{step:06}.safetensors"))
    }

    pub fn loss_log(&self) -> PathBuf {
        self.folder.join("loss.csv")
    }

    /// Loss and learning rate; `kind` is svg or png.
    pub fn curves(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("loss.{kind}"))
    }

    /// The pictures of a step.
    pub fn samples(&self, step: usize) -> PathBuf {
        self.folder.join(format!("samples_{step:06}.png"))
    }

    /// The same pictures over time.
    pub fn film_strip(&self) -> PathBuf {
        self.folder.join("progress.png")
    }

    /// The steps that left pictures, in order.
    pub fn sample_steps(&self) -> Result<Vec<usize>> {
        self.numbered("samples_", ".png")
    }

    /// Keeps the newest state under its step's name, and of those so kept the newest `count`.
    pub fn keep_checkpoint(&self, step: usize, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let (newest, kept) = (self.checkpoint(), self.kept_checkpoint(step));
        // A second name of a link would change with what it leads to.
        let newest = fs::canonicalize(&newest)
            .with_context(|| format!("cannot read {}", newest.display()))?;
        remove(&kept)?;
        // A second name takes no space; not every file system has them.
        fs::hard_link(&newest, &kept)
            .or_else(|_| fs::copy(&newest, &kept).map(drop))
            .with_context(|| format!("cannot write {}", kept.display()))?;
        // Those of a run that was taken up again from before them do not count.
        let mut steps = self.numbered("checkpoint_", ".safetensors")?;
        steps.retain(|&other| other <= step);
        for &old in steps.iter().rev().skip(count) {
            remove(&self.kept_checkpoint(old))?;
        }
        Ok(())
    }

    fn numbered(&self, before: &str, after: &str) -> Result<Vec<usize>> {
        let number = |name: &String| {
            let number = name.strip_prefix(before)?.strip_suffix(after)?;
            number.parse::<usize>().ok()
        };
        let mut steps: Vec<usize> = self.names()?.iter().filter_map(number).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn names(&self) -> Result<Vec<String>> {
        let cannot = || format!("cannot read {}", self.folder.display());
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(entry.with_context(cannot)?.file_name().to_string_lossy().into_owned())
        };
        fs::read_dir(&self.folder).with_context(cannot)?.map(name).collect()
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
