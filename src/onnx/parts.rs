//! What a session is made from: the model's bytes and its external data, as far as the runtime does not
//! read them from files for itself.
//!
//! A model never reads what lies outside of its folder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ort::session::builder::SessionBuilder;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

use super::external_data::locations;
use super::fingerprint::{Fingerprint, Fingerprinting};
use super::interrupt::Interrupt;
use super::load::{check_readable, internal};
use super::ports::refuse;
use super::progress::LoadStage;
use super::reading::{DiskFile, fault, room_for, stream};
use super::source::{ModelFile, ModelFiles, Shared};
use super::weights::{Place, Replacement, Replacements, fit};
use super::{ModelSource, OnnxOptions};

/// Tells the runtime where the other files of a model in memory are.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Where a model is that is to become a session.
pub(super) enum Body {
    /// In a file, which the runtime reads for itself.
    File(PathBuf),
    /// In memory.
    Memory(Shared),
}

/// See the module's text.
pub(super) struct Parts {
    pub(super) body: Body,
    /// Where external data is that lies on disk.
    folder: PathBuf,
    on_disk: Vec<OnDisk>,
    /// The rest of it, by location.
    in_memory: Vec<(String, Arc<[u8]>)>,
    /// The golden checksum of the weights that came from elsewhere, if they did and have one.
    pub(super) golden: Option<Option<String>>,
}

/// A file of external data.
struct OnDisk {
    location: String,
    path: PathBuf,
    /// Whether it is a link out of the folder, to where the model's own file is a link to.
    is_linked: bool,
}

impl Parts {
    /// Reads all of the model once, and keeps what is not on disk.
    ///
    /// Errors: `Io` where a file cannot be read; `Model` where the model's external data is not there or
    /// lies where it must not; `InvalidArgument`; `OutOfMemory`; `EngineClosed` once interrupted.
    pub(super) fn gather(
        source: &ModelSource,
        options: &OnnxOptions,
        interrupt: &Interrupt,
    ) -> Result<(Self, Fingerprint)> {
        let progress = |part| options.progress.set(LoadStage::Model, part);
        let mut print = Fingerprinting::new(interrupt, &progress);
        let name = source.name();
        let folder = options.external_data_dir.as_deref();
        if let (Some(folder), ModelSource::Path(_) | ModelSource::Served { .. }) = (folder, source)
        {
            return Err(Error::invalid_argument(format!(
                "external_data_dir: found {}, expected none as {name} has a place of its own",
                folder.display()
            )));
        }
        if folder.is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(Error::invalid_argument("external_data_dir: found an empty path"));
        }
        let mut parts = match source {
            ModelSource::Path(path) => Self::of_file(path, &mut print),
            ModelSource::Bytes(bytes) => {
                Self::of_bytes(Arc::new(Arc::clone(bytes)), &name, folder, &mut print)
            }
            ModelSource::Shared(bytes) => {
                Self::of_bytes(Arc::clone(bytes), &name, folder, &mut print)
            }
            ModelSource::Served { name, files } => Self::of_served(name, &**files, &mut print),
        }?;
        if let Some(weights) = &options.weights {
            let bytes = bytes_of(weights, &mut print)?;
            let file = match weights {
                ModelSource::Bytes(_) | ModelSource::Shared(_) => "weights in memory".to_owned(),
                _ => weights.name(),
            };
            parts.replace((*bytes).as_ref(), [&file, &name], interrupt, &options.log)?;
        }
        Ok((parts, print.finish()))
    }

    /// Writes weights over those that the model came with. What was on disk is then in memory.
    fn replace(
        &mut self,
        weights: &[u8],
        names: [&str; 2],
        interrupt: &Interrupt,
        log: &Logger,
    ) -> Result<()> {
        let mut model = self.copy_of_model(names[1], interrupt)?;
        let Replacements { all, rounded, of, golden } = fit(weights, &model, names)?;
        let count = all.len();
        let mut external: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut written = Vec::with_capacity(count);
        for Replacement { place, bytes, name } in all {
            let (into, at, location) = match place {
                Place::Model(at) => (&mut model, at, None),
                Place::External { location, offset } => {
                    let file = match external.entry(location.clone()) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => {
                            let bytes = self.take(entry.key(), interrupt)?;
                            entry.insert(bytes)
                        }
                    };
                    (file, offset, Some(location))
                }
            };
            let end = at.checked_add(bytes.len());
            let old = end.and_then(|end| into.get_mut(at..end)).ok_or_else(|| {
                refuse(format!("{}: initializer \"{name}\": beyond the end of its file", names[1]))
            })?;
            old.copy_from_slice(&bytes);
            written.push((location, at, bytes, name));
        }
        for (location, at, bytes, name) in written {
            let file = location.map_or(Some(&model), |location| external.get(&location));
            if file.and_then(|file| file.get(at..at + bytes.len())) != Some(&*bytes) {
                return Err(refuse(format!(
                    "{}: initializer \"{name}\" shares its bytes with another, and {} has other values for that",
                    names[1], names[0]
                )));
            }
        }
        self.in_memory.extend(external.into_iter().map(|(name, bytes)| (name, bytes.into())));
        self.body = Body::Memory(Arc::new(model));
        self.golden = Some(golden);
        let [file, model] = names;
        let rounded = match rounded {
            0 => String::new(),
            rounded => format!(", {rounded} of them rounded to float16"),
        };
        let text = format!("{model}: {count} of {of} initializers are those of {file}{rounded}");
        log.log(LogLevel::Info, text);
        Ok(())
    }

    /// The bytes of the model's own file. `name` is what messages call it.
    ///
    /// Errors: `Io`; `OutOfMemory`; `EngineClosed` once interrupted.
    pub(super) fn copy_of_model(&self, name: &str, interrupt: &Interrupt) -> Result<Vec<u8>> {
        match &self.body {
            Body::File(path) => whole(path, interrupt),
            Body::Memory(bytes) => {
                let bytes = (**bytes).as_ref();
                let mut copy = room_for(bytes.len() as u64, name)?;
                copy.extend_from_slice(bytes);
                Ok(copy)
            }
        }
    }

    /// The bytes of a file of external data, which is on disk no more as far as this is concerned.
    fn take(&mut self, location: &str, interrupt: &Interrupt) -> Result<Vec<u8>> {
        if let Some(at) = self.on_disk.iter().position(|file| file.location == location) {
            return whole(&self.on_disk.remove(at).path, interrupt);
        }
        let at = self.in_memory.iter().position(|(name, _)| name == location);
        Ok(at.map(|at| self.in_memory.remove(at).1.to_vec()).unwrap_or_default())
    }

    fn of_file(path: &Path, print: &mut Fingerprinting<'_>) -> Result<Self> {
        let file = DiskFile::open(path)?;
        let size = file.size();
        let folder = path.parent().unwrap_or(Path::new("")).join(".");
        let linked = path.canonicalize().ok().and_then(|path| Some(path.parent()?.to_owned()));
        let name = path.display().to_string();
        let parts = Self {
            body: Body::File(path.to_owned()),
            on_disk: on_disk(&name, locations(file.into_inner(), size), &folder, linked)?,
            folder,
            in_memory: Vec::new(),
            golden: None,
        };
        let external = parts.on_disk.iter().map(|file| &*file.path);
        let files: Vec<&Path> = std::iter::once(path).chain(external).collect();
        for file in &files {
            print.see(file);
            print.expect(std::fs::metadata(file).map_or(0, |found| found.len()));
        }
        files.iter().try_for_each(|file| print.file(file))?;
        Ok(parts)
    }

    fn of_bytes(
        bytes: Shared,
        name: &str,
        folder: Option<&Path>,
        print: &mut Fingerprinting<'_>,
    ) -> Result<Self> {
        let content = (*bytes).as_ref();
        let locations = locations(Cursor::new(content), content.len() as u64);
        print.expect(content.len() as u64);
        print.bytes(content)?;
        let on_disk = match (folder, locations.first()) {
            (Some(folder), _) => on_disk(name, locations, folder, None)?,
            (None, None) => Vec::new(),
            (None, Some(first)) => {
                return Err(refuse(format!(
                    "{name}: its external data in \"{first}\" is not to be found, as a model in memory has no folder; name one (external_data_dir, in C external_data_path)"
                )));
            }
        };
        for file in &on_disk {
            print.see(&file.path);
            print.file(&file.path)?;
        }
        let folder = folder.unwrap_or(Path::new("")).to_owned();
        Ok(Self { body: Body::Memory(bytes), folder, on_disk, in_memory: Vec::new(), golden: None })
    }

    fn of_served(
        name: &str,
        files: &dyn ModelFiles,
        print: &mut Fingerprinting<'_>,
    ) -> Result<Self> {
        let mut read = |name: &str| {
            let mut file = files.open(name).map_err(|error| fault(name, &error))?;
            print.expect(file.size());
            print.keep(&mut *file, name)
        };
        let model = read(name)?;
        let folder = name.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
        let folder = folder.unwrap_or_default();
        let mut in_memory = Vec::new();
        for location in locations(Cursor::new(&model), model.len() as u64) {
            check_stays(name, &location)?;
            let bytes = read(&format!("{folder}{location}"))?;
            in_memory.push((location, bytes.into()));
        }
        let (folder, on_disk) = (PathBuf::new(), Vec::new());
        Ok(Self { body: Body::Memory(Arc::new(model)), folder, on_disk, in_memory, golden: None })
    }

    /// Tells a session whose graph comes from memory where the rest is. Errors: `Io`; `OutOfMemory`;
    /// `EngineClosed` once interrupted.
    pub(super) fn attach(
        &self,
        mut builder: SessionBuilder,
        interrupt: &Interrupt,
    ) -> Result<SessionBuilder> {
        // The runtime takes what is below the folder, and no folder whose name is not Unicode. Where it is given
        // any file in memory it looks nowhere else.
        let has_other =
            !self.in_memory.is_empty() || self.on_disk.iter().any(|file| file.is_linked);
        let folder = self.folder.to_str().filter(|_| !has_other);
        if let (Some(folder), false) = (folder, self.on_disk.is_empty()) {
            builder = builder.with_config_entry(EXTERNAL_FOLDER, folder).map_err(told)?;
        }
        for (location, bytes) in &self.in_memory {
            builder = builder
                .with_external_initializer_file_in_memory(location, Arc::clone(bytes))
                .map_err(told)?;
        }
        for file in self.on_disk.iter().filter(|_| folder.is_none()) {
            let bytes = whole(&file.path, interrupt)?;
            builder = builder
                .with_external_initializer_file_in_memory(&file.location, bytes.into())
                .map_err(told)?;
        }
        Ok(builder)
    }
}

fn told(error: ort::Error<SessionBuilder>) -> Error {
    internal(error.into())
}

/// All of a file that is no model's part.
fn bytes_of(source: &ModelSource, print: &mut Fingerprinting<'_>) -> Result<Shared> {
    Ok(match source {
        ModelSource::Path(path) => {
            check_readable(path)?;
            print.see(path);
            let mut file = DiskFile::open(path)?;
            print.expect(file.size());
            Arc::new(print.keep(&mut file, &path.display().to_string())?)
        }
        ModelSource::Bytes(bytes) => {
            print.bytes(bytes)?;
            Arc::new(Arc::clone(bytes))
        }
        ModelSource::Shared(bytes) => {
            print.bytes((**bytes).as_ref())?;
            Arc::clone(bytes)
        }
        ModelSource::Served { name, files } => {
            let mut file = files.open(name).map_err(|error| fault(name, &error))?;
            print.expect(file.size());
            Arc::new(print.keep(&mut *file, name)?)
        }
    })
}

fn whole(path: &Path, interrupt: &Interrupt) -> Result<Vec<u8>> {
    let mut file = DiskFile::open(path)?;
    let name = path.display().to_string();
    let mut bytes = room_for(file.size(), &name)?;
    stream(&mut file, &name, interrupt, &mut |block| bytes.extend_from_slice(block))?;
    Ok(bytes)
}

/// Where the files are that a model names. Links may lead to below its folder, or to below the folder that
/// its own file is a link into: download tools keep models so.
fn on_disk(
    model: &str,
    locations: impl IntoIterator<Item = String>,
    folder: &Path,
    linked: Option<PathBuf>,
) -> Result<Vec<OnDisk>> {
    let real_folder = folder.canonicalize();
    let find = |location: String| {
        check_stays(model, &location)?;
        let path = folder.join(&location);
        let refuse = |reason: String| {
            refuse(format!("{model}: its external data in \"{location}\": {reason}"))
        };
        let found = std::fs::metadata(&path).and_then(|found| Ok((found, path.canonicalize()?)));
        let (found, real) = found.map_err(|error| refuse(error.to_string()))?;
        if !found.is_file() {
            return Err(refuse("not a file".to_owned()));
        }
        let is_below = real_folder.as_ref().is_ok_and(|folder| real.starts_with(folder));
        if !is_below && !linked.as_ref().is_some_and(|folder| real.starts_with(folder)) {
            let real = real.display();
            return Err(refuse(format!("a link to {real}, outside of the model's folder")));
        }
        Ok(OnDisk { location, path, is_linked: !is_below })
    };
    locations.into_iter().map(find).collect()
}

/// Errors: `Model` where a model's word for another file may lead out of its folder.
fn check_stays(model: &str, location: &str) -> Result<()> {
    let mut parts = Path::new(location).components().peekable();
    let stays = parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Model,
        format!(
            "{model}: its external data in \"{location}\": outside of the model's folder, expected a file beside the model or below"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_location_leads_out_of_the_folder() {
        for inside in ["weights", "a/b.bin", "./a", "a..b"] {
            check_stays("m", inside).unwrap();
        }
        for outside in ["", "/etc/passwd", "..", "../a", "a/../../b", "a/.."] {
            let error = check_stays("m", outside).unwrap_err();
            assert!(error.to_string().contains(&format!("\"{outside}\"")), "{error}");
        }
    }
}
