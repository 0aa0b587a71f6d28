#!/bin/sh
# What is said where CUDA is asked for and cannot be used: each library hidden in turn, no driver, an old
# one, no device. Needs no GPU: the runtime, its CUDA provider and NVIDIA's libraries are the real ones that
# `make fetch-cuda` put into the cache, the driver is a stand-in (driver.c). Run it by hand, from anywhere:
#
#     cargo build --release -p ddpm && make fetch-cuda && sh tests/cuda/no_gpu.sh
#
# With `--provider cuda` each case has to fail and name the thing; with `auto` it has to run on the CPU and
# say why. It prints what was said, and ends with 1 where something else was. docs/cuda.md has its output.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
tool=${DDPM:-${CARGO_TARGET_DIR:-$root/target}/release/ddpm}
fetched=$(dirname "$(python3 "$root/.ci/fetch_cuda.py")")
model=$root/tests/models/lin.onnx
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

cc -std=c99 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libcuda.so.1 \
    "$root/tests/cuda/driver.c" -o "$scratch/libcuda.so.1"

# A cache whose runtime folder is links to the fetched files; "$@" are left out.
cache() {
    rm -rf "$scratch/cache"
    mkdir -p "$scratch/cache/$(basename "$fetched")"
    for file in "$fetched"/*.so*; do
        ln -s "$file" "$scratch/cache/$(basename "$fetched")/"
    done
    for hidden in "$@"; do
        rm "$scratch/cache/$(basename "$fetched")/$hidden"
    done
}

# say TITLE EXPECTED [VARIABLE=VALUE...] [-- OPTION...]: from the root folder, with no environment else.
say() {
    title=$1 expected=$2
    shift 2
    variables=
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        variables="$variables $1"
        shift
    done
    [ $# -eq 0 ] || shift
    for provider in cuda auto; do
        code=0
        # The variables hold no spaces.
        said=$(cd / && env -i DDPM_CACHE="$scratch/cache" $variables \
            "$tool" info "$model" --provider $provider "$@" 2>&1) || code=$?
        ok=yes
        case $said in *"$expected"*) ;; *) ok=no ;; esac
        if [ $provider = cuda ]; then
            [ $code -eq 4 ] || ok=no
            printf '%s:\n' "$title"
            printf '%s\n' "$said" | grep -v '^ddpm: hint' | sed "s|$scratch/cache|CACHE|g; s|^|    |"
        else
            case $said in *"runs on       cpu"*"using the CPU: "*) [ $code -eq 0 ] || ok=no ;; *) ok=no ;; esac
        fi
        if [ $ok = no ]; then
            printf 'NOT AS EXPECTED with %s (exit code %s, expected the text: %s)\n%s\n' $provider $code "$expected" "$said"
            failures=$((failures + 1))
        fi
    done
}

driver="LD_LIBRARY_PATH=$scratch"
cache
say "no driver" "libcuda.so.1 comes with NVIDIA's driver (driver 580 or newer)"
say "a driver for CUDA 12.4" "serves CUDA 12.4, expected 13.0 or newer" "$driver" STAND_IN_VERSION=12040
say "a driver and no device" "shows no device" "$driver" STAND_IN_INIT=100
say "CUDA_VISIBLE_DEVICES is empty" 'CUDA_VISIBLE_DEVICES is ""' "$driver" STAND_IN_INIT=100 CUDA_VISIBLE_DEVICES=
say "a driver of another version than its kernel module" "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)" "$driver" STAND_IN_INIT=803
say "a device that is not there" "cuda.device: found 3, expected 0 to 1" "$driver" STAND_IN_DEVICES=2 -- --cuda device=3
say "a driver that runs nothing" "CUDA: cuda" "$driver"
for library in libcudart.so.13 libcublasLt.so.13 libcublas.so.13 libcurand.so.10 libcudnn.so.9 libcudnn_ops.so.9 \
    libonnxruntime_providers_cuda.so libonnxruntime_providers_shared.so; do
    cache $library
    say "without $library" "$library" "$driver"
done
cache libnvrtc.so.13 libnvJitLink.so.13 libcufft.so.12
say "without those that few models need (NVRTC, nvJitLink, cuFFT)" "CUDA: cuda" "$driver"
cache libcudnn.so.9
touch "$scratch/cache/$(basename "$fetched")/libcudnn.so.8"
say "with cuDNN 8 in place of 9" "of another version there is" "$driver"
cache libcurand.so.10
echo "no library" >"$scratch/cache/$(basename "$fetched")/libcurand.so.10"
say "with a damaged library" "libcurand.so.10 (cuRAND 10, package nvidia-curand) does not load" "$driver"
# Where NVIDIA's libraries lie elsewhere, each way to name the folder finds them.
cache libcublas.so.13 libcurand.so.10
mkdir -p "$scratch/site/nvidia/cu13/lib"
ln -s "$fetched/libcublas.so.13" "$fetched/libcurand.so.10" "$scratch/site/nvidia/cu13/lib/"
say "two libraries in a site-packages folder, named by an option" "CUDA: cuda" "$driver" -- --cuda "libraries=$scratch/site"
say "the same, named by DDPM_CUDA_LIBRARIES" "CUDA: cuda" "$driver" "DDPM_CUDA_LIBRARIES=$scratch/site"

# A plug-in with everything beside it, loaded RTLD_LOCAL from another folder; then with one library taken away.
cc -std=c99 -Wall -Wextra -Werror -I"$root/include" "$root/tests/cuda/plugin_host.c" -o "$scratch/host" -ldl
mkdir "$scratch/plugin"
cp "$(dirname "$tool")/libddpm.so" "$scratch/plugin/"
ln -s "$fetched"/*.so* "$scratch/plugin/"
plugin() {
    code=0
    said=$(cd / && env -i DDPM_CACHE=/nowhere "$driver" "$scratch/host" "$scratch/plugin/libddpm.so" "$model" 2>&1) || code=$?
    printf '%s:\n%s\n' "$1" "$said" | sed "s|$scratch/plugin|PLUGIN|g; 2,\$s|^|    |"
    case $said in *"$2"*) [ $code -eq 4 ] && return ;; esac
    printf 'NOT AS EXPECTED (exit code %s, expected the text: %s)\n' $code "$2"
    failures=$((failures + 1))
}
plugin "a plug-in with everything beside it" "CUDA: cuda"
case $said in *"calls of the driver: some, on the host's thread: 0"*) ;; *) failures=$((failures + 1)); echo "NOT AS EXPECTED" ;; esac
rm "$scratch/plugin/libcudnn_cnn.so.9"
plugin "a plug-in without libcudnn_cnn.so.9 beside it" "libcudnn_cnn.so.9 (cuDNN 9, package nvidia-cudnn-cu13) not found"

[ $failures -eq 0 ] || { echo "$failures not as expected"; exit 1; }
echo "all as expected"
