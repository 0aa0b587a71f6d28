#!/bin/sh
# A provider that comes as a library of its own beside the CPU: the same run on both, and how far the pictures
# are apart. Without a GPU, WebGPU runs over a software Vulkan:
#
#     pip download --no-deps onnxruntime-ep-webgpu==0.4.0 && unzip onnxruntime_ep_webgpu-*.whl
#     export ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER=1 VK_ICD_FILENAMES=.../vk_swiftshader_icd.json
#     sh tests/cuda/plugin.sh webgpu .../libonnxruntime_providers_webgpu.so
#
# vk_swiftshader_icd.json and its library are in Debian's package chromium-common; Mesa's llvmpipe has what
# WebGPU needs from some version after 22.3 on. Needs python3 and a release build.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
tool=${DDPM:-${CARGO_TARGET_DIR:-$root/target}/release/ddpm}
provider=$1 library=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for model in tests/models/oracle.onnx assets/portraits.onnx; do
    for sampler in ddim ddpm; do
        for name in cpu "$provider"; do
            options=
            [ $name = cpu ] || options="--provider-library $library"
            "$tool" run "$root/$model" --sampler $sampler --steps 10 --seed 7 --provider $name $options \
                -o "$scratch/$name.png" 2>"$scratch/said" || { cat "$scratch/said"; exit 1; }
        done
        python3 - "$scratch/cpu.png" "$scratch/$provider.png" "$model, $sampler" <<'PYTHON'
import struct, sys, zlib

def values(path):
    """The filtered bytes of a PNG, unfiltered: 8 bits a channel, as the tool writes them."""
    data, at, packed = open(path, "rb").read(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body, at = data[at + 8:at + 8 + length], at + 12 + length
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
    assert depth == 8
    size = {0: 1, 2: 3, 6: 4}[color]
    raw, last, found = zlib.decompress(packed), bytes(width * size), []
    for y in range(height):
        line = bytearray(raw[y * (width * size + 1):(y + 1) * (width * size + 1)])
        kind, line = line[0], line[1:]
        for x in range(len(line)):
            a, b, c = line[x - size] if x >= size else 0, last[x], last[x - size] if x >= size else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line[x] = (line[x] + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
        last = bytes(line)
        found += line
    return found

left, right = map(values, sys.argv[1:3])
worst = max(abs(a - b) for a, b in zip(left, right, strict=True))
off = sum(a != b for a, b in zip(left, right)) / len(left)
print(f"{sys.argv[3]}: 10 steps, {off:.2%} of {len(left)} values differ, by {worst} of 255 at most")
# Sums in another order fall to the other side of a rounding now and then; what is wrong moves most values.
sys.exit(worst > 1 or off > 0.05)
PYTHON
    done
done
echo "all as on the CPU"
