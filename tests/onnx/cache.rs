//! The cache of optimised graphs: what it saves, what it survives, and what it never changes.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn cached(model: &Path, folder: &Path) -> OnnxDenoiser {
    let options = OnnxOptions { cache_dir: Some(folder.to_owned()), ..cpu() };
    OnnxDenoiser::load(&ModelSource::from(model), &options).unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

/// A network with convolutions, whose optimised graph has another layout.
fn portraits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx")
}

/// What a load is and gives, apart from the cache: its bits must not depend on it.
fn facts(mut denoiser: OnnxDenoiser) -> (ModelConfig, String, Vec<u32>) {
    let (_, output) = predict(&mut denoiser, &[700.0, 3.0]).unwrap();
    let bits = output.iter().map(|value| value.to_bits()).collect();
    (denoiser.config().clone(), denoiser.info().fingerprint.clone(), bits)
}

#[test]
fn a_second_load_takes_the_graph_from_the_cache_and_gives_the_same_bits() {
    let folder = Folder::new("cache-hit");
    // The folder is made, with those above it.
    let cache = folder.0.join("a/b");
    let model = portraits();
    let plain = OnnxDenoiser::load(&ModelSource::from(&model), &cpu()).unwrap();
    assert_eq!(plain.info().cache, CacheUse::Off);
    let expected = facts(plain);
    assert!(expected.1.len() == 32 && expected.1.bytes().all(|c| c.is_ascii_hexdigit()));
    for state in [CacheUse::Written, CacheUse::Hit, CacheUse::Hit] {
        let loaded = cached(&model, &cache);
        assert_eq!(loaded.info().cache, state);
        assert_eq!(facts(loaded), expected);
    }
    assert_eq!(entries(&cache).len(), 1);
    // Neither the threads, nor how the CPU was come to, nor where the bytes come from, decide the graph.
    let others = [
        (ModelSource::from(&model), OnnxOptions { threads: 3, ..cpu() }),
        (ModelSource::from(&model), OnnxOptions::default()),
        (ModelSource::Bytes(fs::read(&model).unwrap().into()), cpu()),
    ];
    for (source, options) in others {
        let options = OnnxOptions { cache_dir: Some(cache.clone()), ..options };
        let loaded = OnnxDenoiser::load(&source, &options).unwrap();
        assert_eq!(loaded.info().cache, CacheUse::Hit, "{options:?}");
        assert_eq!(facts(loaded).1, expected.1);
    }
    // Another model has an entry of its own, though its file has the same name.
    let other = folder.0.join("portraits.onnx");
    fs::copy(super::model("lin"), &other).unwrap();
    let loaded = cached(&other, &cache);
    assert_eq!(loaded.info().cache, CacheUse::Written);
    assert_ne!(loaded.info().fingerprint, expected.1);
    assert_eq!(entries(&cache).len(), 2);
}

#[test]
fn whatever_lies_in_the_place_of_an_entry_is_made_anew() {
    let folder = Folder::new("cache-damage");
    let model = model("lin");
    let expected = facts(cached(&model, &folder.0));
    let [entry] = entries(&folder.0).try_into().unwrap();
    let good = fs::read(&entry).unwrap();
    // A good entry of another model, moved here.
    let elsewhere = Folder::new("cache-damage-other");
    cached(&super::model("oracle"), &elsewhere.0);
    let foreign = fs::read(&entries(&elsewhere.0)[0]).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damaged = [
        ("empty", Vec::new()),
        ("shorter than a trailer", good[..10].to_vec()),
        ("cut in the middle", good[..good.len() / 2].to_vec()),
        ("without its trailer", good[..good.len() - 24].to_vec()),
        ("a bit in the graph", flipped(good.len() / 3)),
        ("a bit in the hash", flipped(good.len() - 20)),
        ("a bit in the magic", flipped(good.len() - 1)),
        ("longer", [&good[..], b"\0"].concat()),
        ("another model's", foreign),
        ("the model itself", fs::read(&model).unwrap()),
    ];
    for (what, bytes) in damaged {
        fs::write(&entry, bytes).unwrap();
        let (log, seen) = recording();
        let options = OnnxOptions { cache_dir: Some(folder.0.clone()), log, ..cpu() };
        let loaded = OnnxDenoiser::load(&ModelSource::from(&model), &options).unwrap();
        assert_eq!(loaded.info().cache, CacheUse::Written, "{what}");
        assert_eq!(facts(loaded), expected, "{what}");
        let said = seen.lock().unwrap().join("\n");
        assert!(said.contains("it is made anew") && said.contains(".graph"), "{what}: {said}");
        assert_eq!(cached(&model, &folder.0).info().cache, CacheUse::Hit, "{what}");
    }
    // An empty folder can give way; one with something in it is somebody's.
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(cached(&model, &folder.0).info().cache, CacheUse::Written);
    fs::remove_file(&entry).unwrap();
    fs::create_dir_all(entry.join("inside")).unwrap();
    let loaded = cached(&model, &folder.0);
    assert!(matches!(&loaded.info().cache, CacheUse::Unused(_)), "{:?}", loaded.info().cache);
    assert_eq!(facts(loaded), expected);
    // Nothing unfinished is left, whatever came of it.
    assert_eq!(entries(&folder.0), [entry]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_a_warning_and_nothing_else() {
    let folder = Folder::new("cache-unwritable");
    let file = folder.0.join("file");
    fs::write(&file, "in the way").unwrap();
    for cache in [file.clone(), file.join("below"), PathBuf::from("/proc/nowhere"), PathBuf::new()]
    {
        let (log, seen) = recording();
        let options = OnnxOptions { cache_dir: Some(cache.clone()), log, ..cpu() };
        let loaded = OnnxDenoiser::load(&ModelSource::from(&model("lin")), &options).unwrap();
        let CacheUse::Unused(reason) = &loaded.info().cache else {
            panic!("{cache:?}: {:?}", loaded.info().cache);
        };
        assert!(reason.contains(&*cache.to_string_lossy()), "{reason}");
        let said = seen.lock().unwrap().join("\n");
        assert!(said.contains("lin.onnx: the optimised graph is not cached: "), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn a_model_that_does_not_load_leaves_nothing_and_says_what_it_says_without_a_cache() {
    let folder = Folder::new("cache-bad-model");
    let text = folder.0.join("text.onnx");
    fs::write(&text, "this is not a model").unwrap();
    for path in [text, model("opset_99")] {
        let source = ModelSource::from(&path);
        let cache = folder.0.join("cache");
        let options = OnnxOptions { cache_dir: Some(cache.clone()), ..cpu() };
        let with = OnnxDenoiser::load(&source, &options).unwrap_err();
        assert_eq!(with, OnnxDenoiser::load(&source, &cpu()).unwrap_err());
        assert_eq!(entries(&cache), [] as [PathBuf; 0]);
    }
}

#[test]
fn engines_may_fill_one_cache_at_once() {
    let folder = Folder::new("cache-at-once");
    let expected = facts(load("oracle").unwrap());
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..5 {
                    let loaded = cached(&model("oracle"), &folder.0);
                    let cache = &loaded.info().cache;
                    assert!(matches!(cache, CacheUse::Written | CacheUse::Hit), "{cache:?}");
                    assert_eq!(facts(loaded), expected);
                }
            });
        }
    });
    assert_eq!(entries(&folder.0).len(), 1);
    assert_eq!(cached(&model("oracle"), &folder.0).info().cache, CacheUse::Hit);
}

/// The weights stay where they are; the entry has the graph.
#[test]
fn weights_in_other_files_are_part_of_the_fingerprint_and_need_no_copy() {
    let folder = Folder::new("cache-external");
    let (cache, place) = (folder.0.join("cache"), folder.0.join("external.onnx"));
    let weights = folder.0.join("external.onnx.data");
    fs::copy(model("external"), &place).unwrap();
    fs::copy(model("external").with_file_name("external.onnx.data"), &weights).unwrap();
    let first = facts(cached(&place, &cache));
    let again = cached(&place, &cache);
    assert_eq!(again.info().cache, CacheUse::Hit);
    assert_eq!(facts(again), first);
    // Other weights are another model.
    let mut bytes = fs::read(&weights).unwrap();
    bytes.chunks_mut(4).for_each(|value| value.copy_from_slice(&0.25f32.to_le_bytes()));
    fs::write(&weights, bytes).unwrap();
    let changed = cached(&place, &cache);
    assert_eq!(changed.info().cache, CacheUse::Written);
    let changed = facts(changed);
    assert_ne!(changed.1, first.1);
    assert_ne!(changed.2, first.2);
    assert_eq!(facts(cached(&place, &cache)), changed);
}

/// As a download tool lays models out: names that are links into a folder of blobs.
#[cfg(unix)]
#[test]
fn a_model_and_its_weights_may_be_links_into_a_folder_of_blobs() {
    let folder = Folder::new("links");
    let (blobs, names) = (folder.0.join("blobs"), folder.0.join("names"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&names).unwrap();
    let link = |blob: &str, name: &str| {
        fs::copy(model("external").with_file_name(name), blobs.join(blob)).unwrap();
        std::os::unix::fs::symlink(Path::new("../blobs").join(blob), names.join(name)).unwrap();
    };
    link("1f3d", "external.onnx");
    link("ab20", "external.onnx.data");
    let path = names.join("external.onnx");
    let linked = OnnxDenoiser::load(&ModelSource::from(&path), &cpu()).unwrap();
    let expected = facts(load("external").unwrap());
    assert_eq!(facts(linked), expected);
    for state in [CacheUse::Written, CacheUse::Hit] {
        let loaded = cached(&path, &folder.0.join("cache"));
        assert_eq!(loaded.info().cache, state);
        assert_eq!(facts(loaded), expected);
    }
    // Weights that lead elsewhere than the model does are refused, by name.
    let lone = folder.0.join("lone");
    fs::create_dir_all(&lone).unwrap();
    fs::copy(model("external"), lone.join("external.onnx")).unwrap();
    std::os::unix::fs::symlink("../blobs/ab20", lone.join("external.onnx.data")).unwrap();
    let source = ModelSource::from(&lone.join("external.onnx"));
    let error = OnnxDenoiser::load(&source, &cpu()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains("external.onnx.data"), "{error}");
}

/// Else the graph of one file would be kept under the fingerprint of another.
#[test]
fn a_model_that_changes_while_it_is_loaded_is_not_cached() {
    let folder = Folder::new("cache-changes");
    let path = folder.0.join("lin.onnx");
    fs::copy(model("lin"), &path).unwrap();
    // The runtime speaks in the middle of the load; the file gets another time and is else as it was.
    let changing = path.clone();
    let sink = move |_, text: &str| {
        if text.starts_with("ONNX Runtime:") {
            let file = fs::File::options().append(true).open(&changing).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    let cache = folder.0.join("cache");
    let log = Logger::new(Some(Arc::new(sink)), LogLevel::Debug);
    let options = OnnxOptions { cache_dir: Some(cache.clone()), log, ..cpu() };
    let loaded = OnnxDenoiser::load(&ModelSource::from(&path), &options).unwrap();
    let CacheUse::Unused(reason) = &loaded.info().cache else {
        panic!("{:?}", loaded.info().cache);
    };
    assert!(reason.contains("changed while it was loaded"), "{reason}");
    assert_eq!(entries(&cache), [] as [PathBuf; 0]);
}
