#!/usr/bin/env python3
"""libddpm beside what its user would pick instead: same model, same steps, same threads, in turns.

    cargo build --release -p ddpm
    make fetch
    pip install torch diffusers onnx onnxscript onnxruntime==1.31.1 numpy
    python3 benches/compare.py

Two models: assets/portraits.onnx (16x16, 1.4 million weights), and the network that diffusers has for
CIFAR-10 (32x32, 35.7 million, random), exported by PyTorch. First the PyTorch network is shown to give
what the ONNX file gives. Then every contender makes pictures from the same noise, 50 steps of DDIM and 50
of DDPM, in a process of its own, one after the other, round after round:

    libddpm        the C ABI of the release build, called through ctypes: ask for a step, wait for it, copy
                   the frame, and so on. The frames, one a step, are part of its time.
    onnxruntime    a Python loop: session.run, then the scheduler's arithmetic in numpy
    diffusers      PyTorch with DDIMScheduler or DDPMScheduler, under inference_mode: eager in both
                   memory layouts, and compiled

The pictures must be the same (SAME says how nearly), the noise of DDPM's steps being libddpm's in all of
them. "first frame" is from the start of the process, interpreter
and imports included, to the pixels of the first step's predicted picture. Memory is the peak of the
process. Ratios are the contender's time over libddpm's.

Run it on a quiet machine: about six minutes. Needs Python 3.11 or newer. ONNX Runtime should be the one
that libddpm runs; both versions are printed.
"""

import argparse
import ctypes
import json
import os
import pathlib
import re
import statistics
import sys
import time
import tomllib

from training_speed import child, load_onnx, unet

# As there: what is large is imported in child processes only.

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 50
TRAIN_STEPS = 1000
SAMPLERS = ("ddim", "ddpm")
SEED = 7
OURS = "libddpm"
CONTENDERS = {
    OURS: {"task": "ours"},
    "onnxruntime, numpy": {"task": "onnxruntime"},
    "diffusers, eager": {"task": "diffusers"},
    "diffusers, eager, channels_last": {"task": "diffusers", "channels_last": True},
    "diffusers, torch.compile": {"task": "diffusers", "compiled": True},
}
# Networks: float32 sums in different orders, of values of size 1.
NETWORK_TOLERANCE = 1e-4
# Pictures, in levels of 255, for all but SHARE of the values: sums in another order fall to the other side
# of a rounding now and then, and 50 steps of a random network, unlike those of a trained one, make much of
# a last bit (5 levels are seen). A wrong timestep, coefficient or noise changes most values by tens.
SAME = {"portraits": 1, "cifar": 8}
SHARE = 0.01
COLD = 5  # steps of a picture that do not count


def cifar_network():
    """diffusers' network for CIFAR-10 (Ho et al. 2020): random, its output of the size of noise."""
    import torch
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
    )  # fmt: skip
    return net.eval()


def portraits_network():
    """The network of the model that ships, as benches/training_speed.py has it."""
    config = tomllib.loads((ROOT / "training/configs/portraits.toml").read_text())
    return unet(config["model"]).eval()


NETWORKS = {"portraits": portraits_network, "cifar": cifar_network}


def output_of(net):
    """`net` as a function that gives the tensor itself."""
    return lambda sample, timestep: getattr(found := net(sample, timestep), "sample", found)


def export_onnx(net, example, onnx_file, **options):
    """Has PyTorch write the network, whose output is then the tensor itself."""
    import torch

    run = output_of(net)

    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, sample, timestep):
            return run(sample, timestep)

    torch.onnx.export(
        Bare().eval(), example, onnx_file, dynamo=True, external_data=False, verbose=False,
        input_names=["sample", "timestep"], output_names=["out_sample"], **options,
    )  # fmt: skip


def worker_prepare(model, onnx_file, weights_file, threads):
    """Writes the network's weights, and its ONNX file where there is none yet; compares the two."""
    import numpy as np
    import onnxruntime
    import torch

    torch.set_num_threads(threads)
    net = NETWORKS[model]()
    run = output_of(net)
    sample, timestep = torch.randn(1, 3, net_size(model), net_size(model)), torch.tensor([500])
    with torch.inference_mode():
        if model == "portraits":
            load_onnx(net, onnx_file)
        else:
            size = run(sample, timestep).std()
            net.conv_out.weight /= size
            net.conv_out.bias /= size
    torch.save(net.state_dict(), weights_file)
    if not pathlib.Path(onnx_file).exists():
        export_onnx(net, (sample, timestep), onnx_file)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    worst, squares = 0.0, 0.0
    for t in (0, 1, 250, 500, 999):
        sample, timestep = torch.randn_like(sample), torch.tensor([t])
        with torch.inference_mode():
            expected = run(sample, timestep).numpy()
        found = session.run(None, {"sample": sample.numpy(), "timestep": timestep.numpy()})[0]
        worst = max(worst, float(np.abs(found - expected).max()))
        squares += float(np.square(expected).mean()) / 5
    return {"worst": worst, "size": squares**0.5, "weights": sum(p.numel() for p in net.parameters())}


def net_size(model):
    return {"portraits": 16, "cifar": 32}[model]


def process(model):
    """The forward process, in diffusers' words; and whether DDIM takes epsilon from the clipped picture."""
    if model == "cifar":
        return {"prediction_type": "epsilon", "beta_schedule": "linear"}, False
    config = tomllib.loads((ROOT / "training/configs/portraits.toml").read_text())["diffusion"]
    return {key: config[key] for key in ("prediction_type", "beta_schedule")}, True


def alphas_cumprod(beta_schedule):
    import numpy as np

    if beta_schedule == "linear":
        betas = np.linspace(1e-4, 0.02, TRAIN_STEPS, dtype=np.float64)
    else:
        assert beta_schedule == "squaredcos_cap_v2", beta_schedule
        bar = np.cos((np.arange(TRAIN_STEPS + 1) / TRAIN_STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    return np.cumprod(1.0 - betas).tolist()


def timesteps():
    """"leading", as both papers' samplers have it."""
    return [TRAIN_STEPS // STEPS * i for i in reversed(range(STEPS))]


def philox_normal(seed, purpose, row, count):
    """The noise of src/rng.rs: Philox4x32-10 and Box-Muller."""
    import numpy as np

    index = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [index & 0xFFFFFFFF, index >> np.uint64(32), np.full_like(index, row), np.full_like(index, purpose)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
        c = [(p1 >> high) ^ c[1] ^ np.uint64(key[0]), p1 & low, (p0 >> high) ^ c[3] ^ np.uint64(key[1]), p0 & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    uniform = [(word.astype(np.float64) + 0.5) * 2.0**-32 for word in c]
    pairs = []
    for radius, angle in (uniform[:2], uniform[2:]):
        r = np.sqrt(-2.0 * np.log(radius))
        pairs += [r * np.cos(2 * np.pi * angle), r * np.sin(2 * np.pi * angle)]
    return np.stack(pairs, 1).reshape(-1)[:count].astype(np.float32)


def start_noise(size):
    return philox_normal(SEED, 0, 0, 3 * size * size).reshape(1, 3, size, size)


def step_noise(row, size):
    return philox_normal(SEED, 1, row, 3 * size * size).reshape(1, 3, size, size)


def to_bytes(picture):
    """[1, 3, h, w] of -1..1 as RGB bytes, the way libddpm rounds."""
    import numpy as np

    levels = np.clip((np.asarray(picture, np.float32)[0].transpose(1, 2, 0) + 1.0) * 127.5 + 0.5, 0, 255)
    return levels.astype(np.uint8)


class Stopwatch:
    """Times of steps, and when the first frame was there."""

    def __init__(self):
        self.first_frame = None
        self.seconds = {sampler: [] for sampler in SAMPLERS}
        self.pictures = {}

    def frame(self):
        self.first_frame = self.first_frame or time.time()

    def result(self, **more):
        return {"first_frame": self.first_frame, "seconds": self.seconds, "pictures": self.pictures} | more


class Header:
    """The constants and structs of include/ddpm.h, for ctypes."""

    KINDS = {"uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "int64_t": ctypes.c_int64,
             "int32_t": ctypes.c_int32, "float": ctypes.c_float, "double": ctypes.c_double}  # fmt: skip

    def __init__(self, path):
        text = re.sub(r"//.*", "", path.read_text())
        numbers = re.findall(r"#define (DDPM_\w+) (-?\d+)", text) + re.findall(r"(DDPM_\w+) = (\d+)", text)
        self.numbers = {name: int(value) for name, value in numbers}
        self.structs = {name: body for body, name in re.findall(r"typedef struct \{([^}]*)\} (\w+);", text)}

    def make(self, name, **values):
        """A struct as its INIT macro leaves it, with these fields."""
        fields = []
        for kind, pointer, field, count in re.findall(r"(\w+) (\*?)(\w+)(?:\[(\d+)\])?;", self.structs[name]):
            # What is no number is a function.
            kind = ctypes.c_void_p if pointer else self.KINDS.get(kind, ctypes.c_void_p)
            fields.append((field, kind * int(count) if count else kind))
        struct = type(name, (ctypes.Structure,), {"_fields_": fields})
        return struct(struct_size=ctypes.sizeof(struct), **values)


def worker_ours(model, onnx_file, threads, library):
    header = Header(ROOT / "include/ddpm.h")
    lib = ctypes.CDLL(library)
    lib.ddpm_last_error.restype = ctypes.c_char_p
    number = header.numbers
    assert lib.ddpm_abi_version() == number["DDPM_ABI_VERSION"]

    def check(result):
        if result < 0:
            sys.exit(lib.ddpm_last_error().decode())
        return result

    path = ctypes.create_string_buffer(onnx_file.encode())
    desc = header.make(
        "ddpm_engine_desc", provider=number["DDPM_PROVIDER_CPU"], model_path=ctypes.addressof(path), threads=threads,
        max_batch=1,
    )  # fmt: skip
    engine, info = ctypes.c_void_p(), header.make("ddpm_engine_info")
    check(lib.ddpm_engine_create(ctypes.byref(desc), ctypes.byref(engine)))
    check(lib.ddpm_engine_wait(engine, ctypes.c_uint32(number["DDPM_WAIT_FOREVER"])))
    check(lib.ddpm_engine_get_info(engine, ctypes.byref(info)))
    watch, size = Stopwatch(), net_size(model)
    pixels = (ctypes.c_uint8 * (4 * size * size))()
    for sampler in SAMPLERS:
        desc = header.make(
            "ddpm_stream_desc", sampler=number[f"DDPM_SAMPLER_{sampler.upper()}"], steps=STEPS, seed=SEED,
            spacing=number["DDPM_SPACING_LEADING"], clip=number["DDPM_CLIP_RANGE"], clip_range=1.0,
        )  # fmt: skip
        stream = ctypes.c_void_p()
        check(lib.ddpm_stream_create(engine, ctypes.byref(desc), ctypes.byref(stream)))
        while True:
            start = time.perf_counter()
            if check(lib.ddpm_step(stream)) == number["DDPM_DONE"]:
                break
            check(lib.ddpm_stream_wait(stream, ctypes.c_uint32(number["DDPM_WAIT_FOREVER"])))
            check(lib.ddpm_stream_copy_frame(stream, pixels, ctypes.c_uint64(len(pixels)), ctypes.c_uint64(0), None))
            watch.seconds[sampler].append(time.perf_counter() - start)
            watch.frame()
        watch.pictures[sampler] = [value for i, value in enumerate(pixels) if i % 4 != 3]
        check(lib.ddpm_stream_destroy(stream))
    runtime = ctypes.string_at(info.runtime_version).decode()
    check(lib.ddpm_engine_destroy(engine))
    return watch.result(versions=f"ONNX Runtime {runtime}")


def worker_onnxruntime(model, onnx_file, threads):
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    made_by, clipped_epsilon = process(model)
    is_v = made_by["prediction_type"] == "v_prediction"
    alphas = alphas_cumprod(made_by["beta_schedule"])
    watch, size = Stopwatch(), net_size(model)
    noises = [step_noise(row, size) for row in range(STEPS)]
    for sampler in SAMPLERS:
        x, visited = start_noise(size), timesteps()
        for row, t in enumerate(visited):
            start = time.perf_counter()
            output = session.run(None, {"sample": x, "timestep": np.array([t])})[0]
            a, last = alphas[t], row + 1 == STEPS
            before = 1.0 if last else alphas[visited[row + 1]]
            if is_v:
                x0 = a**0.5 * x - (1 - a) ** 0.5 * output
                epsilon = a**0.5 * output + (1 - a) ** 0.5 * x
            else:
                x0, epsilon = (x - (1 - a) ** 0.5 * output) / a**0.5, output
            x0 = np.clip(x0, -1, 1)
            if sampler == "ddim":
                if clipped_epsilon:
                    epsilon = (x - a**0.5 * x0) / (1 - a) ** 0.5
                x = before**0.5 * x0 + (1 - before) ** 0.5 * epsilon
            else:
                beta = 1 - a / before
                x = before**0.5 * beta / (1 - a) * x0 + (a / before) ** 0.5 * (1 - before) / (1 - a) * x
                x += ((1 - before) / (1 - a) * beta) ** 0.5 * noises[row] if not last else 0
            watch.seconds[sampler].append(time.perf_counter() - start)
            if row == 0:
                to_bytes(x0)
                watch.frame()
        watch.pictures[sampler] = to_bytes(x).reshape(-1).tolist()
    return watch.result(versions=f"ONNX Runtime {onnxruntime.__version__}")


def worker_diffusers(model, weights_file, threads, channels_last=False, compiled=False):
    import diffusers
    import torch
    from diffusers.schedulers import scheduling_ddpm

    torch.set_num_threads(threads)
    net = NETWORKS[model]()
    net.load_state_dict(torch.load(weights_file, weights_only=True))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)
    run = output_of(torch.compile(net) if compiled else net)
    watch, size = Stopwatch(), net_size(model)
    noises = [torch.from_numpy(step_noise(row, size)) for row in range(STEPS)]
    # In place of its own generator's, so that the pictures can be compared.
    scheduling_ddpm.randn_tensor = lambda *_, **__: noises[row]
    for sampler in SAMPLERS:
        kind = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}[sampler]
        made_by, clipped_epsilon = process(model)
        options = {"use_clipped_model_output": True} if clipped_epsilon and sampler == "ddim" else {}
        scheduler = kind(
            timestep_spacing="leading", beta_start=1e-4, beta_end=0.02, clip_sample=True, **made_by
        )
        scheduler.set_timesteps(STEPS)
        x = torch.from_numpy(start_noise(size)).to(memory_format=layout)
        with torch.inference_mode():
            for row, t in enumerate(scheduler.timesteps):
                start = time.perf_counter()
                found = scheduler.step(run(x, t.reshape(1)), t, x, **options)
                x = found.prev_sample
                watch.seconds[sampler].append(time.perf_counter() - start)
                if row == 0:
                    to_bytes(found.pred_original_sample)
                    watch.frame()
        watch.pictures[sampler] = to_bytes(x).reshape(-1).tolist()
    return watch.result(versions=f"PyTorch {torch.__version__}, diffusers {diffusers.__version__}")


def work(task, threads, **arguments):
    """Calls worker_`task` in a process of its own: its result, its peak memory, and when it began."""
    arguments |= {"task": task, "threads": threads}
    began = time.time()
    output, peak = child([sys.executable, __file__, "--worker", json.dumps(arguments)], threads)
    # What a library prints comes before it.
    return json.loads(output.strip().splitlines()[-1]), peak, began


def prepare(model, options):
    """The model's files; ends the program where PyTorch and the ONNX file differ."""
    folder = options.folder / model
    folder.mkdir(parents=True, exist_ok=True)
    onnx_file = ROOT / "assets/portraits.onnx" if model == "portraits" else folder / "model.onnx"
    files = {"onnx_file": str(onnx_file), "weights_file": str(folder / "weights.pt")}
    found, _, _ = work("prepare", options.threads, model=model, **files)
    print(
        f"{model}: {found['weights']} weights; PyTorch and the ONNX file differ by {found['worst']:.1e} at most, "
        f"of values of root mean square {found['size']:.2f}, allowed {NETWORK_TOLERANCE:.0e}",
        flush=True,
    )
    if not found["worst"] <= NETWORK_TOLERANCE or not found["size"] > 0.1:
        sys.exit("the networks differ, or give nothing to compare: no times taken")
    return files


def difference(found, expected, level):
    """The share of values that are more than `level` apart, and how far the furthest are."""
    differences = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    return sum(d > level for d in differences) / len(differences), max(differences)


def measure(model, files, options):
    results = {}
    for _ in range(options.rounds):
        for name, how in CONTENDERS.items():
            if "compiled" in how and not options.compile:
                continue
            arguments = {"weights_file": files["weights_file"]} if how["task"] == "diffusers" else {"onnx_file": files["onnx_file"]}
            if name == OURS:
                arguments["library"] = str(options.library)
            found, peak, began = work(threads=options.threads, model=model, **how, **arguments)
            found |= {"peak": peak, "first": found["first_frame"] - began}
            results.setdefault(name, []).append(found)
    expected = results[OURS][0]["pictures"]
    for name, rounds in results.items():
        for found in rounds:
            for sampler in SAMPLERS:
                share, worst = difference(found["pictures"][sampler], expected[sampler], SAME[model])
                if share > SHARE:
                    sys.exit(f"{model}, {sampler}: {name} gives another picture: {share:.1%} of the values differ, by up to {worst}")
                found.setdefault("worst", []).append(worst)
    ours = summary(results[OURS])
    print(f"\n| {model}, {options.threads} thread | DDIM ms a step | DDPM ms a step | time ratio | first frame s | ratio | peak MiB | ratio | picture |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds in results.items():
        found = summary(rounds)
        ratio = statistics.mean(found[s] / ours[s] for s in SAMPLERS)
        worst = max(max(r["worst"]) for r in rounds)
        print(
            f"| {name} | {found['ddim']:.2f} | {found['ddpm']:.2f} | {ratio:.2f} | {found['first']:.2f} | "
            f"{found['first'] / ours['first']:.1f} | {found['peak']:.0f} | {found['peak'] / ours['peak']:.1f} | ±{worst} |"
        )
    print("\n" + "; ".join(f"{name}: {rounds[0]['versions']}" for name, rounds in results.items()) + "\n", flush=True)


def summary(rounds):
    """Medians over the steps of all rounds that count, and over the rounds."""
    found = {key: statistics.median(r[key] for r in rounds) for key in ("first", "peak")}
    for sampler in SAMPLERS:
        found[sampler] = 1e3 * statistics.median(s for r in rounds for s in r["seconds"][sampler][COLD:])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    parser.add_argument("--library", type=pathlib.Path, default=target / f"release/libddpm.{suffix}")
    parser.add_argument("--folder", type=pathlib.Path, default=target / "compare", help="for the models made here")
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        task = options.worker.pop("task")
        workers = {"prepare": worker_prepare, "ours": worker_ours, "onnxruntime": worker_onnxruntime, "diffusers": worker_diffusers}
        print(json.dumps(workers[task](**options.worker)))
        return
    if not options.library.exists():
        sys.exit(f"{options.library}: not there; cargo build --release -p ddpm, or name it with --library")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the load average was {load:.1f} at the start: where other programs run, the times mean little")
    for model in options.model:
        measure(model, prepare(model, options), options)


if __name__ == "__main__":
    main()
