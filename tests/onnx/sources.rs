//! Where a model and its external data may come from, and where not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use ddpm::onnx::{ModelFile, ModelFiles};

use super::*;

/// Half of the sample, with the factors in another file.
fn external() -> (Vec<u8>, Vec<u8>) {
    let model = model("external");
    let data = fs::read(model.with_file_name("external.onnx.data")).unwrap();
    (fs::read(model).unwrap(), data)
}

/// The same with another location of the same length in place of `external.onnx.data`.
fn located(location: &str) -> Vec<u8> {
    let usual = b"external.onnx.data";
    assert_eq!(location.len(), usual.len());
    let (mut model, _) = external();
    let at = model.windows(usual.len()).position(|part| part == usual).unwrap();
    model[at..at + usual.len()].copy_from_slice(location.as_bytes());
    model
}

fn halves(denoiser: Result<OnnxDenoiser>) -> String {
    let mut denoiser = denoiser.unwrap();
    let (sample, output) = predict(&mut denoiser, &[3.0, 9.0]).unwrap();
    assert_eq!(output, sample * 0.5);
    denoiser.info().fingerprint.clone()
}

fn in_folder(folder: &Path, bytes: Vec<u8>, cache: Option<&Path>) -> Result<OnnxDenoiser> {
    let external_data_dir = Some(folder.to_owned());
    let options = OnnxOptions { external_data_dir, cache_dir: cache.map(Path::to_owned), ..cpu() };
    OnnxDenoiser::load(&ModelSource::Bytes(bytes.into()), &options)
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let folder = Folder::new("no-model");
    let load = |name: &str| OnnxDenoiser::load(&ModelSource::from(&folder.0.join(name)), &cpu());
    std::fs::write(folder.0.join("text.onnx"), "this is text, not a model\n").unwrap();
    std::fs::write(folder.0.join("empty.onnx"), "").unwrap();
    let cut = std::fs::read(model("oracle")).unwrap();
    std::fs::write(folder.0.join("cut.onnx"), &cut[..cut.len() * 6 / 10]).unwrap();
    for name in ["text.onnx", "empty.onnx", "cut.onnx"] {
        let error = load(name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    for name in ["absent.onnx", ""] {
        let error = load(name).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn bytes_in_memory_are_a_model_too() {
    let bytes: Arc<[u8]> = std::fs::read(model("lin")).unwrap().into();
    let mut denoiser = OnnxDenoiser::load(&ModelSource::Bytes(bytes), &cpu()).unwrap();
    let (sample, output) = predict(&mut denoiser, &[0.0]).unwrap();
    assert_eq!(output, sample * 0.5);
    let junk: Arc<[u8]> = Arc::from(&b"junk"[..]);
    let error = OnnxDenoiser::load(&ModelSource::Bytes(junk), &cpu()).unwrap_err();
    assert!(error.to_string().starts_with("model of 4 bytes in memory: "), "{error}");
}

#[test]
fn a_path_with_accents_and_cjk_works() {
    let folder = Folder::new("utf8");
    let path = folder.0.join("modèle-拡散-Größe.onnx");
    std::fs::copy(model("lin"), &path).unwrap();
    let cache_dir = Some(folder.0.join("mémoire-記憶"));
    let load = || {
        OnnxDenoiser::load(
            &ModelSource::from(&path),
            &OnnxOptions { cache_dir: cache_dir.clone(), ..cpu() },
        )
    };
    assert_eq!(load().unwrap().info().cache, CacheUse::Written);
    assert_eq!(load().unwrap().info().cache, CacheUse::Hit);
}

#[test]
fn external_data_that_is_missing_is_named() {
    let folder = Folder::new("external");
    let path = folder.0.join("external.onnx");
    std::fs::copy(model("external"), &path).unwrap();
    let error = OnnxDenoiser::load(&ModelSource::from(&path), &cpu()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains("external.onnx.data"), "{error}");
}

#[test]
fn external_data_lies_beside_the_model_or_below_and_nowhere_else() {
    let folder = Folder::new("external-place");
    let (_, data) = external();
    let inside = folder.0.join("inside");
    fs::create_dir_all(inside.join("a/bc/de")).unwrap();
    let outside = folder.0.join("89012345678.bin");
    fs::write(&outside, &data).unwrap();
    fs::write(inside.join("a/bc/de/weight.bin"), &data).unwrap();
    // The length of a location is that of the one it takes the place of.
    let absolute = format!("/{:/>17}", "etc/hosts");
    for (location, expected) in [
        ("a/bc/de/weight.bin", None),
        ("./a/bc/./de/absent", Some("No such file")),
        ("././././././a/bc/d", Some("No such file")),
        ("./././././././a/bc", Some("not a file")),
        ("../89012345678.bin", Some("outside of the model's folder")),
        ("a/../a/bc/de/we.bi", Some("outside of the model's folder")),
        (&absolute, Some("outside of the model's folder")),
    ] {
        let bytes = located(location);
        let path = inside.join("m.onnx");
        fs::write(&path, &bytes).unwrap();
        let by_path = OnnxDenoiser::load(&ModelSource::from(&path), &cpu());
        let by_bytes = in_folder(&inside, bytes, None);
        match expected {
            None => assert_eq!(halves(by_path), halves(by_bytes)),
            Some(expected) => {
                for refused in [by_path, by_bytes] {
                    let error = refused.expect_err(location);
                    assert_eq!(error.kind(), ErrorKind::Model);
                    let text = error.to_string();
                    assert!(text.contains(&format!("\"{location}\": ")), "{text}");
                    assert!(text.contains(expected), "{text}");
                }
            }
        }
    }
}

/// As a download tool lays out a model whose weights are in folders of their own.
#[cfg(unix)]
#[test]
fn links_below_the_model_may_lead_to_where_its_own_link_does() {
    let folder = Folder::new("external-links");
    let (blobs, other) = (folder.0.join("blobs"), folder.0.join("other"));
    let names = folder.0.join("snapshots/1/unet");
    for made in [&blobs, &other, &names.join("a/bc/de")] {
        fs::create_dir_all(made).unwrap();
    }
    let (_, data) = external();
    fs::write(blobs.join("77"), located("a/bc/de/weight.bin")).unwrap();
    fs::write(blobs.join("88"), &data).unwrap();
    fs::write(other.join("99"), &data).unwrap();
    let link = std::os::unix::fs::symlink::<&Path, &Path>;
    let (model, weights) = (names.join("m.onnx"), names.join("a/bc/de/weight.bin"));
    link(Path::new("../../../blobs/77"), &model).unwrap();
    link(Path::new("../../../../../../blobs/88"), &weights).unwrap();
    let load = || OnnxDenoiser::load(&ModelSource::from(&model), &cpu());
    halves(load());
    fs::remove_file(&weights).unwrap();
    link(Path::new("../../../../../../other/99"), &weights).unwrap();
    let text = load().unwrap_err().to_string();
    assert!(
        text.contains("weight.bin\": a link to") && text.contains("other/99, outside"),
        "{text}"
    );
}

#[test]
fn a_model_in_memory_needs_a_folder_for_its_external_data_and_no_other_does() {
    let folder = Folder::new("external-memory");
    let (bytes, data) = external();
    let bare = OnnxDenoiser::load(&ModelSource::Bytes(bytes.clone().into()), &cpu()).unwrap_err();
    assert_eq!(bare.kind(), ErrorKind::Model);
    let text = bare.to_string();
    assert!(
        text.contains("\"external.onnx.data\"") && text.contains("external_data_dir"),
        "{text}"
    );
    let empty = in_folder(Path::new(""), bytes.clone(), None).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidArgument);
    assert_eq!(empty.message(), "external_data_dir: found an empty path");
    let absent = in_folder(&folder.0, bytes.clone(), None).unwrap_err().to_string();
    assert!(absent.contains("\"external.onnx.data\": No such file"), "{absent}");
    fs::write(folder.0.join("external.onnx.data"), &data).unwrap();
    let cache = folder.0.join("cache");
    let first = halves(in_folder(&folder.0, bytes.clone(), Some(&cache)));
    // It is the model that a path leads to, and takes what the cache has of that.
    let by_path = OnnxOptions { cache_dir: Some(cache.clone()), ..cpu() };
    let by_path = OnnxDenoiser::load(&ModelSource::from(&model("external")), &by_path).unwrap();
    assert_eq!(by_path.info().cache, CacheUse::Hit);
    assert_eq!(halves(Ok(by_path)), first);
    // Cut off, by either way.
    fs::write(folder.0.join("external.onnx.data"), &data[..data.len() / 2]).unwrap();
    let cut = in_folder(&folder.0, bytes, Some(&cache)).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Model, "{cut}");
    let external_data_dir = Some(folder.0.clone());
    let options = OnnxOptions { external_data_dir, ..cpu() };
    let error = OnnxDenoiser::load(&ModelSource::from(&model("lin")), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("external_data_dir: found"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_name_is_not_unicode_has_models_with_external_data_too() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new("external-bytes");
    let odd = folder.0.join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
    fs::create_dir_all(&odd).unwrap();
    let (bytes, data) = external();
    fs::write(odd.join("external.onnx.data"), data).unwrap();
    fs::write(odd.join("m.onnx"), &bytes).unwrap();
    let by_path = OnnxDenoiser::load(&ModelSource::from(&odd.join("m.onnx")), &cpu());
    assert_eq!(halves(by_path), halves(in_folder(&odd, bytes, None)));
}

/// Files that are handed out a few bytes at a time.
#[derive(Clone, Default)]
struct Archive {
    files: BTreeMap<String, Vec<u8>>,
    opened: Arc<Mutex<Vec<String>>>,
    /// What is said of every file's size in place of the truth.
    size: Option<u64>,
    /// Where reading fails.
    fails_at: Option<u64>,
    /// How many bytes more than it wrote a read says that it wrote.
    boasts: usize,
}

struct Entry {
    bytes: Vec<u8>,
    archive: Archive,
}

impl ModelFiles for Archive {
    fn open(&self, name: &str) -> io::Result<Box<dyn ModelFile>> {
        self.opened.lock().unwrap().push(name.to_owned());
        let bytes = self.files.get(name).ok_or_else(|| io::Error::other("not in this archive"))?;
        Ok(Box::new(Entry { bytes: bytes.clone(), archive: self.clone() }))
    }
}

impl ModelFile for Entry {
    fn size(&self) -> u64 {
        self.archive.size.unwrap_or(self.bytes.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.archive.fails_at.is_some_and(|at| at <= offset) {
            return Err(io::Error::other("the key is wrong"));
        }
        let rest = &self.bytes[(offset as usize).min(self.bytes.len())..];
        let length = rest.len().min(into.len()).min(100);
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length + self.archive.boasts)
    }
}

fn archive() -> Archive {
    let (model, data) = external();
    let files = [("pack/m.onnx", model), ("pack/external.onnx.data", data)];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    Archive { files, ..Archive::default() }
}

fn served(archive: &Archive, options: &OnnxOptions) -> Result<OnnxDenoiser> {
    let files = Arc::new(archive.clone());
    let source = ModelSource::Served { name: "pack/m.onnx".to_owned(), files };
    OnnxDenoiser::load(&source, options)
}

#[test]
fn a_host_may_serve_the_model_and_its_external_data() {
    let folder = Folder::new("served");
    let archive = archive();
    let fingerprint = halves(served(&archive, &cpu()));
    assert_eq!(*archive.opened.lock().unwrap(), ["pack/m.onnx", "pack/external.onnx.data"]);
    assert_eq!(Arc::strong_count(&archive.opened), 1, "something of the host's is still held");
    assert_eq!(fingerprint, halves(load("external")));
    let options = OnnxOptions { cache_dir: Some(folder.0.clone()), ..cpu() };
    for state in [CacheUse::Written, CacheUse::Hit] {
        let loaded = served(&archive, &options).unwrap();
        assert_eq!(loaded.info().cache, state);
        assert_eq!(halves(Ok(loaded)), fingerprint);
    }
}

#[test]
fn what_a_host_serves_badly_is_refused_by_name() {
    let good = archive();
    let model_size = good.files["pack/m.onnx"].len();
    let without = |name: &str| {
        let mut archive = good.clone();
        archive.files.remove(name);
        archive
    };
    for (archive, kind, expected) in [
        (without("pack/m.onnx"), ErrorKind::Io, "pack/m.onnx: not in this archive".to_owned()),
        (
            without("pack/external.onnx.data"),
            ErrorKind::Io,
            "pack/external.onnx.data: not in this archive".to_owned(),
        ),
        (
            Archive { fails_at: Some(100), ..good.clone() },
            ErrorKind::Io,
            "pack/m.onnx: the key is wrong".to_owned(),
        ),
        (
            Archive { size: Some(1 << 20), ..good.clone() },
            ErrorKind::Io,
            format!("pack/m.onnx: ended after {model_size} of 1048576 bytes"),
        ),
        (
            Archive { size: Some(u64::MAX / 2), ..good.clone() },
            ErrorKind::OutOfMemory,
            format!("pack/m.onnx: memory for its {} bytes could not be had", u64::MAX / 2),
        ),
        (
            Archive { boasts: 1 << 30, ..good.clone() },
            ErrorKind::Io,
            "pack/m.onnx: reading gave 1073741924 bytes at 0, expected at most".to_owned(),
        ),
    ] {
        let error = served(&archive, &cpu()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    // A smaller size than the file's is the size.
    let cut = served(&Archive { size: Some(50), ..good }, &cpu()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Model, "{cut}");
}

/// Bytes that change once the model is loaded: nothing may look at them then.
#[test]
fn bytes_of_another_owner_are_not_looked_at_once_the_model_is_loaded() {
    struct Watched(Mutex<Arc<AtomicBool>>, Vec<u8>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.fill(0xFF);
            self.0.lock().unwrap().store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let bytes = Watched(Mutex::new(Arc::clone(&gone)), fs::read(model("oracle")).unwrap());
    let source = ModelSource::Shared(Arc::new(bytes));
    let mut loaded = OnnxDenoiser::load(&source, &cpu()).unwrap();
    drop(source);
    assert!(gone.load(Ordering::SeqCst));
    let expected = predict(&mut load("oracle").unwrap(), &[7.0]).unwrap();
    assert_eq!(predict(&mut loaded, &[7.0]).unwrap(), expected);
    assert_eq!(loaded.info().fingerprint, load("oracle").unwrap().info().fingerprint);
}
