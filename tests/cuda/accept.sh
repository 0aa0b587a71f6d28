#!/bin/sh
# The acceptance of CUDA: one command on a Linux machine with an NVIDIA GPU, without a network. It prints one
# table, and ends with 1 where a picture differs or CUDA does not run.
#
#     cargo build --release -p ddpm                                   # before, where there is a network
#     sh tests/cuda/accept.sh --wheels DIR                            # the wheels of .ci/fetch_cuda.py
#     sh tests/cuda/accept.sh --nvidia-from SITE --wheels DIR         # NVIDIA's libraries as PyTorch has them, in
#                                                                     # its site-packages; DIR has the rest:
#                                                                     # onnxruntime-gpu and nvidia-curand
#     sh tests/cuda/accept.sh                                         # `make fetch-cuda` was run already
#     sh tests/cuda/accept.sh --provider cpu --quick                  # a dry run, on any machine
#
# What it needs: target/release/libddpm.so, python3 with numpy; for the rows that compare, PyTorch,
# onnx, onnxscript and diffusers, and an onnxruntime with CUDA (pip install onnxruntime-gpu==1.31.1). A row
# whose tools are missing says so. PYTHON names another python3. It keeps to eight minutes (--seconds 460):
# what does not fit is left out, and said. All other options: python3 tests/cuda/accept.py --help
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
fetch= provider=cuda
rest=
while [ $# -gt 0 ]; do
    case $1 in
    --wheels | --nvidia-from)
        fetch="$fetch $1 $(cd "$2" && pwd)"
        shift 2
        ;;
    --provider)
        provider=$2
        rest="$rest $1 $2"
        shift 2
        ;;
    *)
        rest="$rest $1"
        shift
        ;;
    esac
done
if [ "$provider" = cuda ]; then
    # The paths hold no spaces.
    "$python" "$root/.ci/fetch_cuda.py" $fetch >&2
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || true
else
    "$python" "$root/.ci/fetch_onnxruntime.py" >&2
fi
exec "$python" "$root/tests/cuda/accept.py" $rest
