//! The files of a run, all in one folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Their names.
pub struct RunFiles {
    pub folder: PathBuf,
}

impl RunFiles {
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
        let shown = self.folder.display();
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(|| format!("cannot read {shown}"))? {
            let name = entry.with_context(|| format!("cannot read {shown}"))?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix(before).and_then(|name| name.strip_suffix(after));
            steps.extend(number.and_then(|number| number.parse::<usize>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
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
