//! NVIDIA's libraries: which ones the CUDA provider of a runtime wants, where they are looked for, and what
//! is said of those that are not there.
//!
//! They are loaded before the provider, by absolute paths, so that neither a library path of the system
//! nor the folder that a program is started in matters; the loader then takes them for the names that the
//! provider asks for. One that the process has already, the host's, is used as it is.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::needed;
use super::library::nvidia::Loaded;
use super::lookup::cuda_cached;

/// Names folders with NVIDIA's libraries, as PATH does.
pub(super) const FOLDERS_VARIABLE: &str = "DDPM_CUDA_LIBRARIES";

/// The CUDA of a provider that does not tell.
const DEFAULT_CUDA: u32 = 13;

/// A library of NVIDIA's that a provider uses, or a part of one.
struct Known {
    /// Its name before the version.
    stem: &'static str,
    /// What it is.
    title: &'static str,
    /// The version of its name with CUDA 12 and with CUDA 13.
    versions: [u32; 2],
    /// The package of PyPI that has it for CUDA 13; for CUDA 12 `-cu12` follows.
    package: &'static str,
    /// Whether nothing goes without it.
    required: bool,
}

const fn known(
    stem: &'static str,
    title: &'static str,
    versions: [u32; 2],
    package: &'static str,
    required: bool,
) -> Known {
    Known { stem, title, versions, package, required }
}

/// In the order of loading: those that others need come first. The libraries that cuDNN is split into
/// would be found by cuDNN itself where it is installed as NVIDIA packs it, and not where it is not.
const KNOWN: [Known; 14] = [
    known("libcudart.so", "CUDA runtime", [12, 13], "nvidia-cuda-runtime", true),
    known("libcublasLt.so", "cuBLAS", [12, 13], "nvidia-cublas", true),
    known("libcublas.so", "cuBLAS", [12, 13], "nvidia-cublas", true),
    known("libnvrtc.so", "NVRTC", [12, 13], "nvidia-cuda-nvrtc", false),
    known("libnvJitLink.so", "nvJitLink", [12, 13], "nvidia-nvjitlink", false),
    known("libcufft.so", "cuFFT", [11, 12], "nvidia-cufft", false),
    known("libcurand.so", "cuRAND", [10, 10], "nvidia-curand", true),
    known("libcudnn.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_graph.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_ops.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_cnn.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_heuristic.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_engines_precompiled.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
    known("libcudnn_engines_runtime_compiled.so", "cuDNN", [9, 9], "nvidia-cudnn", true),
];

/// A library as a provider wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    stem: &'static str,
    /// With its version, as the loader asks for it.
    name: String,
    /// `cuDNN 9, package nvidia-cudnn-cu13`.
    what: String,
    required: bool,
}

/// What a provider wants, in the order of loading.
pub(super) struct Wants {
    /// Of CUDA, the major version.
    pub(super) cuda: u32,
    pub(super) libraries: Vec<Wanted>,
}

impl Wants {
    /// Of this provider library. What it does not list, because it loads that later, is known.
    pub(super) fn of(provider: &Path) -> Self {
        Self::from_needed(&needed(provider))
    }

    fn from_needed(needed: &[String]) -> Self {
        let listed = |known: &Known| {
            needed.iter().find_map(|name| {
                name.strip_prefix(known.stem)?.strip_prefix('.')?.split('.').next()?.parse().ok()
            })
        };
        let cuda: u32 = listed(&KNOWN[0]).unwrap_or(DEFAULT_CUDA);
        // Elsewhere the names are others, and the system finds them.
        let sought = if cfg!(unix) { &KNOWN[..] } else { &[] };
        let libraries = sought
            .iter()
            .map(|known| {
                let [of_12, of_13] = known.versions;
                let version: u32 = listed(known).unwrap_or(if cuda <= 12 { of_12 } else { of_13 });
                Wanted {
                    stem: known.stem,
                    name: format!("{}.{version}", known.stem),
                    what: format!("{} {version}, package {}", known.title, package(known, cuda)),
                    required: known.required,
                }
            })
            .collect();
        Self { cuda, libraries }
    }
}

fn package(known: &Known, cuda: u32) -> String {
    match (known.package, cuda) {
        ("nvidia-cudnn", _) => format!("nvidia-cudnn-cu{cuda}"),
        (package, ..=12) => format!("{package}-cu{cuda}"),
        (package, _) => package.to_owned(),
    }
}

/// What the loader or the runtime said, and what is missing in it by name.
pub(super) fn explain(text: &str, wants: &Wants) -> String {
    let text = text.trim_end();
    let library = wants.libraries.iter().find_map(|wanted| {
        let said = |reason| text.contains(&format!("{}: {reason}", wanted.name));
        match (said("cannot open shared object file"), said("file too short")) {
            (true, _) => Some((wanted, "is missing")),
            (_, true) => Some((wanted, "is damaged")),
            _ => None,
        }
    });
    let hint = match library {
        Some((wanted, state)) => format!("{} {state} ({})", wanted.name, wanted.what),
        None if text.contains("cuDNN is not available")
            || text.contains("cuDNN library was not found") =>
        {
            let cudnn = wants.libraries.iter().find(|wanted| wanted.stem == "libcudnn.so");
            cudnn.map_or(String::new(), |cudnn| {
                format!("{} was not loaded ({})", cudnn.name, cudnn.what)
            })
        }
        None if text.contains("cudaErrorInsufficientDriver")
            || text.contains("CUDA failure 35") =>
        {
            format!("the driver is too old for CUDA {}", wants.cuda)
        }
        None if text.contains("cudaErrorNoDevice") || text.contains("CUDA failure 100") => {
            "there is no device".to_owned()
        }
        None if text.contains("cudaErrorMemoryAllocation") || text.contains("CUDA failure 2:") => {
            "the device's memory ran out; see CudaOptions::memory_limit, and what else runs on it"
                .to_owned()
        }
        None if text.contains("cudaErrorNoKernelImageForDevice")
            || text.contains("CUDA failure 209") =>
        {
            "this build of the runtime has no kernels for this device".to_owned()
        }
        None => return text.to_owned(),
    };
    format!("{text} [{hint}]")
}

/// Where libraries are looked for, best first.
pub(super) struct Folders(Vec<PathBuf>);

impl Folders {
    /// `given` is the caller's; `runtime` the file of the runtime. Each stands for itself, for the places
    /// of libraries below a CUDA toolkit, and for those below a site-packages folder of Python.
    pub(super) fn new(given: Option<&Path>, runtime: &Path) -> Self {
        let mut roots: Vec<PathBuf> = given.map(Path::to_owned).into_iter().collect();
        roots.extend(env::var_os(FOLDERS_VARIABLE).iter().flat_map(env::split_paths));
        if let Some(folder) = runtime.parent() {
            roots.push(folder.to_owned());
            // A runtime that Python's package installed lies in site-packages/onnxruntime/capi.
            if folder.ends_with("onnxruntime/capi") {
                roots.extend(folder.ancestors().nth(2).map(Path::to_owned));
            }
        }
        roots.extend(cuda_cached());
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            roots.extend(env::var_os(variable).map(PathBuf::from));
        }
        roots.push(PathBuf::from("/usr/local/cuda"));
        let mut folders = Vec::new();
        for root in roots.iter().filter(|root| !root.as_os_str().is_empty()) {
            let Ok(root) = std::path::absolute(root) else {
                continue;
            };
            let below = [root.join("lib64"), root.join("lib")];
            for folder in [root.clone()].into_iter().chain(below).chain(packages(&root)) {
                if folder.is_dir() && !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        Self(folders)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().map(|folder| folder.join(name)).find(|path| path.exists())
    }

    /// Files of other versions of a library.
    fn others(&self, wanted: &Wanted) -> Vec<PathBuf> {
        let start = format!("{}.", wanted.stem);
        let mut found: Vec<PathBuf> = self.0.iter().flat_map(|folder| entries(folder)).collect();
        found.retain(|path| {
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(&start))
        });
        found.sort();
        found
    }

    fn text(&self) -> String {
        let folders: Vec<String> =
            self.0.iter().map(|folder| folder.display().to_string()).collect();
        folders.join(", ")
    }
}

/// `nvidia/*/lib` below a site-packages folder.
fn packages(site: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        entries(&site.join("nvidia")).iter().map(|package| package.join("lib")).collect();
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The libraries of one provider, each where it will be loaded from.
pub(super) struct Located {
    cuda: u32,
    found: Vec<(Wanted, Option<PathBuf>)>,
}

/// Looks for all libraries and loads none of those that are in the folders. Errors: a line for each that is
/// missing.
pub(super) fn locate(wants: &Wants, folders: &Folders) -> Result<Located, Vec<String>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for wanted in &wants.libraries {
        if is_loaded(&wanted.name) {
            found.push((wanted.clone(), None));
        } else if let Some(path) = folders.find(&wanted.name) {
            found.push((wanted.clone(), Some(path)));
        } else if wanted.required {
            // The system's loader may know better, by its cache or the host's library path.
            match Loaded::open(OsStr::new(&wanted.name)) {
                Ok(_) => found.push((wanted.clone(), None)),
                Err(_) => missing.push(not_found(wanted, folders)),
            }
        }
    }
    if missing.is_empty() { Ok(Located { cuda: wants.cuda, found }) } else { Err(missing) }
}

fn not_found(wanted: &Wanted, folders: &Folders) -> String {
    let others: Vec<String> =
        folders.others(wanted).iter().map(|path| path.display().to_string()).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!("; of another version there is {}", others.join(", ")),
    };
    format!(
        "{} ({}) not found; looked in {} and where the system's loader looks{others}",
        wanted.name,
        wanted.what,
        folders.text()
    )
}

impl Located {
    /// Loads them, for good, and gives the first, which is the CUDA runtime. Errors: the file and the loader's reason.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let mut first = None;
        for (wanted, path) in &self.found {
            let loaded = match path {
                None => Loaded::open(OsStr::new(&wanted.name)),
                Some(path) => Loaded::open(path.as_os_str()),
            };
            match loaded {
                Ok(library) => first = first.or(Some(library)),
                Err(reason) => {
                    let shown = path.as_deref().unwrap_or(Path::new(&wanted.name)).display();
                    let text = format!("{shown} ({}) does not load: {reason}", wanted.what);
                    if wanted.required {
                        return Err(text);
                    }
                }
            }
        }
        match first {
            Some(runtime) => Ok(runtime),
            None => Loaded::open(OsStr::new(&format!("cudart64_{}.dll", self.cuda))),
        }
    }
}

#[cfg(unix)]
fn is_loaded(name: &str) -> bool {
    Loaded::find(name).is_some()
}

#[cfg(not(unix))]
fn is_loaded(_name: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(needed: &[&str]) -> Wants {
        Wants::from_needed(&needed.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    fn names(wants: &Wants) -> Vec<&str> {
        wants.libraries.iter().map(|wanted| wanted.name.as_str()).collect()
    }

    #[cfg(unix)]
    #[test]
    fn versions_are_those_that_the_provider_lists() {
        let of_13 = wants(&["libcublasLt.so.13", "libcudart.so.13", "libcuda.so.1", "libc.so.6"]);
        assert_eq!(
            names(&of_13)[..8],
            [
                "libcudart.so.13",
                "libcublasLt.so.13",
                "libcublas.so.13",
                "libnvrtc.so.13",
                "libnvJitLink.so.13",
                "libcufft.so.12",
                "libcurand.so.10",
                "libcudnn.so.9"
            ]
        );
        assert_eq!(of_13.libraries[2].what, "cuBLAS 13, package nvidia-cublas");
        assert_eq!(of_13.libraries[7].what, "cuDNN 9, package nvidia-cudnn-cu13");
        let of_12 = wants(&["libcudart.so.12", "libcudnn.so.8"]);
        assert_eq!(of_12.cuda, 12);
        assert!(
            names(&of_12).contains(&"libcufft.so.11") && names(&of_12).contains(&"libcudnn.so.8")
        );
        assert_eq!(of_12.libraries[2].what, "cuBLAS 12, package nvidia-cublas-cu12");
        assert_eq!(wants(&[]).cuda, DEFAULT_CUDA);
    }

    #[cfg(unix)]
    /// Texts as glibc and ONNX Runtime 1.31 write them.
    #[test]
    fn what_the_loader_and_the_runtime_say_is_told_apart() {
        let load = "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: ";
        for (said, hint) in [
            (
                format!("{load}libcublasLt.so.13: cannot open shared object file: No such file or directory\n"),
                "libcublasLt.so.13 is missing (cuBLAS 13, package nvidia-cublas)",
            ),
            (format!("{load}/x/libcurand.so.10: file too short"), "libcurand.so.10 is damaged (cuRAND 10, package nvidia-curand)"),
            ("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; expr=cudaSetDevice(info_.device_id);".to_owned(), "there is no device"),
            ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0".to_owned(), "the driver is too old for CUDA 13"),
            ("cuDNN is not available. Install cuDNN, update the system library search path, or set enable_cudnn=0".to_owned(), "libcudnn.so.9 was not loaded (cuDNN 9, package nvidia-cudnn-cu13)"),
            ("cudaSetDevice: cudaErrorNoDevice (100), no CUDA-capable device is detected".to_owned(), "there is no device"),
            ("CUDA failure 209: no kernel image is available for execution on the device".to_owned(), "this build of the runtime has no kernels for this device"),
        ] {
            let text = explain(&said, &wants(&["libcudart.so.13"]));
            assert_eq!(text, format!("{} [{hint}]", said.trim_end()));
        }
        assert_eq!(explain("something else\n", &wants(&[])), "something else");
    }

    #[test]
    fn a_library_is_found_in_each_layout_and_another_version_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = |relative: &str| root.path().join(relative);
        let folders =
            |given: &str| Folders::new(Some(&path(given)), Path::new("/nowhere/lib/ort.so"));
        for (given, file) in [
            ("flat", "flat/libtest_a.so.13"),
            ("toolkit", "toolkit/lib64/libtest_a.so.13"),
            ("site", "site/nvidia/cu13/lib/libtest_a.so.13"),
        ] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "").unwrap();
            assert_eq!(folders(given).find("libtest_a.so.13"), Some(path(file)));
            assert_eq!(folders(given).find("libtest_a.so.12"), None);
        }
        let installed = path("site/onnxruntime/capi/libonnxruntime.so.1.31.1");
        let beside = Folders::new(None, &installed).find("libtest_a.so.13");
        assert_eq!(beside, Some(path("site/nvidia/cu13/lib/libtest_a.so.13")));
        let wanted = Wanted {
            stem: "libtest_a.so",
            name: "libtest_a.so.14".to_owned(),
            what: "test 14, package test".to_owned(),
            required: true,
        };
        let wants = Wants { cuda: 14, libraries: vec![wanted] };
        let missing = locate(&wants, &folders("site")).err().unwrap();
        let [line] = missing.as_slice() else { panic!("{missing:?}") };
        for part in [
            "libtest_a.so.14 (test 14, package test) not found; looked in ",
            path("site/nvidia/cu13/lib").to_str().unwrap(),
            &format!(
                "of another version there is {}",
                path("site/nvidia/cu13/lib/libtest_a.so.13").display()
            ),
        ] {
            assert!(line.contains(part), "{line} does not contain {part:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_no_library_is_named_with_the_loaders_reason() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libtest_b.so.1"), "no library").unwrap();
        let wanted = Wanted {
            stem: "libtest_b.so",
            name: "libtest_b.so.1".to_owned(),
            what: "test 1, package test".to_owned(),
            required: true,
        };
        let wants = Wants { cuda: 13, libraries: vec![wanted] };
        let folders = Folders::new(Some(folder.path()), Path::new("/nowhere/lib/ort.so"));
        let error = locate(&wants, &folders).unwrap_or_else(|_| panic!()).load().err().unwrap();
        assert!(error.contains("libtest_b.so.1 (test 1, package test) does not load: "), "{error}");
    }
}
