//! The files of a run, all in one folder, which is one run's at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::output::{PARTIAL, is_at, make_folder, write_atomically};

/// Their names.
pub struct RunFiles {
    pub folder: PathBuf,
}

/// The right to write to a run's folder. It ends with the program, however that ends.
pub struct Claim {
    locked: File,
    path: PathBuf,
}

fn process() -> String {
    std::process::id().to_string()
}

impl Claim {
    /// Whether the folder is there still, and no other in its place.
    pub fn holds(&self) -> bool {
        // Not every file system keeps the numbers by which files are told apart.
        let is_own = || fs::read_to_string(&self.path).is_ok_and(|text| text == process());
        is_at(&self.locked, &self.path) || is_own()
    }
}

impl RunFiles {
    /// Makes the folder where it is not there, and claims it: two runs would mix their files. What a run
    /// that was killed left half written is removed.
    ///
    /// Errors: where another run has claimed it.
    pub fn claim(&self) -> Result<Claim> {
        let shown = self.folder.display();
        make_folder(&self.folder)?;
        let path = self.lock();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        // Not every file system has locks.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let process = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "{shown}: another run is writing there (process {}); stop it, wait for it, or choose \
                 another folder with --out",
                if process.is_empty() { "not known" } else { &process }
            );
        }
        // For whoever comes next.
        let _ = file.set_len(0).and_then(|()| file.write_all(process().as_bytes()));
        self.remove_partial()?;
        Ok(Claim { locked: file, path })
    }

    fn remove_partial(&self) -> Result<()> {
        let is_left = |name: &String| {
            let partial = name.strip_suffix(PARTIAL).and_then(|name| name.strip_suffix('.'));
            let parts = partial.and_then(|name| name.rsplit_once('.'));
            parts.is_some_and(|(own, process)| is_own(own) && process.parse::<u32>().is_ok())
        };
        let names = self.names()?;
        names
            .iter()
            .filter(|name| is_left(name))
            .try_for_each(|name| remove(&self.folder.join(name)))
    }

    /// Whether a run in the folder writes over that file, as far as its name tells.
    pub fn includes(&self, file: &Path) -> bool {
        let folder = |path: &Path| fs::canonicalize(path).ok();
        let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let is_here = folder(beside.unwrap_or(Path::new("."))) == folder(&self.folder);
        is_here && file.file_name().is_some_and(|name| is_own(&name.to_string_lossy()))
    }

    /// A checkpoint of an earlier run, if there is one.
    pub fn earlier(&self) -> Result<Option<PathBuf>> {
        // A link to nothing is there too, and cannot be written.
        if fs::symlink_metadata(self.checkpoint()).is_ok() {
            return Ok(Some(self.checkpoint()));
        }
        let kept = self.numbered("checkpoint_", ".safetensors")?;
        Ok(kept.last().map(|step| self.kept_checkpoint(*step)))
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

    /// Keeps the newest state, the bytes of a checkpoint, under its step's name, and of those so kept the newest `count`.
    pub fn keep_checkpoint(&self, state: &[u8], step: usize, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        // Not a second name of the same file: whoever copies another over it would change both.
        write_atomically(&self.kept_checkpoint(step), state)?;
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

/// Whether a file of that name is one that runs write.
fn is_own(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    match extension {
        "safetensors" => stem == "checkpoint" || stem.starts_with("checkpoint_"),
        "csv" | "svg" => stem == "loss",
        "png" => ["loss", "progress"].contains(&stem) || stem.starts_with("samples_"),
        _ => name == ".lock",
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
