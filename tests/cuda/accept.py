#!/usr/bin/env python3
"""What tests/cuda/accept.sh runs: libddpm on CUDA beside the CPU, a bare session, and PyTorch. One table.

Each measurement is a process of its own, so that one which fails costs its own rows and no others. Times are
medians of steps after some that do not count, and always of a whole reverse step, with the sampler's
arithmetic and ours with a frame each, but for the bare session, which is the model alone with its tensors on
the device.
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches"))

from compare import NETWORKS, SAME, SHARE, Header, difference, export_onnx, net_size, output_of, worker_prepare  # noqa: E402

SAMPLERS = ("ddim", "ddpm")
SEED = 7
COLD = 5
PERIOD, WORK = 1 / 60, 4e-3


def export_open_batch(model, onnx_file, weights_file):
    """The network with any batch size; PyTorch's exporter makes the shipped model's rival for one only."""
    import torch

    net = NETWORKS[model]()
    net.load_state_dict(torch.load(weights_file, weights_only=True))
    size, batch = net_size(model), torch.export.Dim("batch", min=1, max=256)
    example = (torch.randn(2, 3, size, size), torch.tensor([500, 500]))
    export_onnx(net.eval(), example, onnx_file, dynamic_shapes={"sample": {0: batch}, "timestep": {0: batch}})


def worker_models(model, folder, threads):
    """The ONNX file and PyTorch's weights of a model; made where they are not there."""
    folder = pathlib.Path(folder) / model
    folder.mkdir(parents=True, exist_ok=True)
    weights, fixed = folder / "weights.pt", folder / "fixed.onnx"
    onnx_file = ROOT / "assets/portraits.onnx" if model == "portraits" else folder / "open.onnx"
    if not weights.exists() or not onnx_file.exists():
        checked = onnx_file if model == "portraits" else fixed
        found = worker_prepare(model, str(checked), str(weights), threads)
        if not found["worst"] <= 1e-4:
            sys.exit(f"PyTorch and the ONNX file differ by {found['worst']}")
        if model != "portraits":
            export_open_batch(model, str(onnx_file), str(weights))
            fixed.unlink()
    return {"onnx_file": str(onnx_file), "weights_file": str(weights)}


class Library:
    """libddpm by ctypes."""

    def __init__(self, path):
        self.header = Header(ROOT / "include/ddpm.h")
        self.number = self.header.numbers
        self.lib = ctypes.CDLL(path)
        self.lib.ddpm_last_error.restype = ctypes.c_char_p

    def check(self, result):
        if result < 0:
            sys.exit(self.lib.ddpm_last_error().decode())
        return result

    def engine(self, onnx_file, provider, fused="auto", cuda=None, max_batch=1):
        path = ctypes.create_string_buffer(onnx_file.encode())
        self.cuda = self.header.make("ddpm_cuda_desc", **(cuda or {}))
        desc = self.header.make(
            "ddpm_engine_desc", provider=self.number[f"DDPM_PROVIDER_{provider.upper()}"],
            model_path=ctypes.addressof(path), max_batch=max_batch, fused_step=self.number[f"DDPM_FUSED_{fused.upper()}"],
            cuda=ctypes.addressof(self.cuda),
        )  # fmt: skip
        engine, info = ctypes.c_void_p(), self.header.make("ddpm_engine_info")
        began = time.perf_counter()
        self.check(self.lib.ddpm_engine_create(ctypes.byref(desc), ctypes.byref(engine)))
        self.check(self.lib.ddpm_engine_wait(engine, ctypes.c_uint32(self.number["DDPM_WAIT_FOREVER"])))
        self.load_seconds = time.perf_counter() - began
        self.check(self.lib.ddpm_engine_get_info(engine, ctypes.byref(info)))
        return engine, info

    def stream(self, engine, sampler, steps):
        desc = self.header.make(
            "ddpm_stream_desc", sampler=self.number[f"DDPM_SAMPLER_{sampler.upper()}"], steps=steps, seed=SEED,
            spacing=self.number["DDPM_SPACING_LEADING"], clip=self.number["DDPM_CLIP_RANGE"], clip_range=1.0,
        )  # fmt: skip
        stream = ctypes.c_void_p()
        self.check(self.lib.ddpm_stream_create(engine, ctypes.byref(desc), ctypes.byref(stream)))
        return stream

    def host_copies(self, engine):
        """How often the state of a stream went to the host or back so far."""
        status = self.header.make("ddpm_engine_status")
        self.check(self.lib.ddpm_engine_get_status(engine, ctypes.byref(status)))
        return status.host_copies


def worker_pictures(library, onnx_file, size, provider, fused, steps):
    """The pictures of both samplers, and how the engine got there."""
    ours = Library(library)
    engine, info = ours.engine(onnx_file, provider, fused)
    pixels = (ctypes.c_uint8 * (4 * size * size))()
    result = {
        "pictures": {}, "load": ours.load_seconds, "copies": {},
        "provider": info.provider, "device": ctypes.string_at(info.device_name).decode(),
        "free": info.free_device_memory, "memory": info.device_memory,
        "runtime": ctypes.string_at(info.runtime_version).decode(),
        "fused": info.fused_step, "reason": ctypes.string_at(info.fallback_reason).decode(),
    }  # fmt: skip
    for sampler in SAMPLERS:
        stream, before = ours.stream(engine, sampler, steps), ours.host_copies(engine)
        while ours.check(ours.lib.ddpm_step(stream)) != ours.number["DDPM_DONE"]:
            ours.check(ours.lib.ddpm_stream_wait(stream, ctypes.c_uint32(ours.number["DDPM_WAIT_FOREVER"])))
        ours.check(ours.lib.ddpm_stream_copy_frame(stream, pixels, ctypes.c_uint64(len(pixels)), ctypes.c_uint64(0), None))
        result["pictures"][sampler] = [value for i, value in enumerate(pixels) if i % 4 != 3]
        result["copies"][sampler] = ours.host_copies(engine) - before
        ours.check(ours.lib.ddpm_stream_destroy(stream))
    ours.check(ours.lib.ddpm_engine_destroy(engine))
    return result


def worker_steps(library, onnx_file, provider, fused, cuda, batches, steps):
    """Streams that step together, as a host sees them: the time from asking for a step of all until all have
    made it, and how often the state of one went to the host or back in a step."""
    ours, found = Library(library), {}
    forever = ctypes.c_uint32(ours.number["DDPM_WAIT_FOREVER"])
    engine, _ = ours.engine(onnx_file, provider, fused, cuda, max(batches))
    for batch in batches:
        streams = [ours.stream(engine, "ddim", 1000) for _ in range(batch)]

        def step():
            for stream in streams:
                ours.check(ours.lib.ddpm_step(stream))
            for stream in streams:
                ours.check(ours.lib.ddpm_stream_wait(stream, forever))

        for _ in range(COLD):
            step()
        before = ours.host_copies(engine)
        taken = timed(step, steps)
        copies = (ours.host_copies(engine) - before) / batch / (COLD + steps)
        found[batch] = {"ms": taken, "copies": copies}
        for stream in streams:
            ours.check(ours.lib.ddpm_stream_destroy(stream))
    ours.check(ours.lib.ddpm_engine_destroy(engine))
    return found


def worker_bare(onnx_file, size, provider, batches, steps):
    """The session alone, by Python, its tensors on the device: {batch: ms}."""
    import numpy as np
    import onnxruntime

    name = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[provider]
    if name not in onnxruntime.get_available_providers():
        sys.exit(f"onnxruntime {onnxruntime.__version__} of this Python has no {name}")
    if provider == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"} if provider == "cuda" else {}
    session = onnxruntime.InferenceSession(onnx_file, providers=[(name, options)])
    if session.get_providers()[0] != name:
        sys.exit(f"onnxruntime runs on {session.get_providers()[0]}, expected {name}")
    times = {}
    for batch in batches:
        binding = session.io_binding()
        sample = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
        values = [sample, np.full(batch, 500, np.int64)]
        for entry, value in zip(session.get_inputs(), values, strict=True):
            binding.bind_ortvalue_input(entry.name, onnxruntime.OrtValue.ortvalue_from_numpy(value, provider, 0))
        output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(sample), provider, 0)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, output)
        times[batch] = timed(lambda: session.run_with_iobinding(binding), steps)
    return times


def timed(step, steps):
    """The median in ms."""
    seconds = []
    for _ in range(COLD + steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds[COLD:])


def worker_torch(model, weights_file, provider, batches, steps, compiled, threads):
    """A step of DDIM by PyTorch, all on the device: {batch: ms}."""
    import torch

    device = {"cuda": "cuda", "cpu": "cpu"}[provider]
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device == "cpu":
        torch.set_num_threads(threads)
    net = NETWORKS[model]()
    net.load_state_dict(torch.load(weights_file, weights_only=True))
    net = net.to(device).eval()
    run = output_of(torch.compile(net) if compiled else net)
    times = {}
    for batch in batches:
        x = torch.randn(batch, 3, net_size(model), net_size(model), device=device)
        t = torch.full((batch,), 500, device=device)

        def step():
            nonlocal x
            epsilon = run(x, t)
            x0 = ((x - 0.7 * epsilon) / 0.71).clamp(-1, 1)
            x = 0.72 * x0 + 0.69 * epsilon
            if device == "cuda":
                torch.cuda.synchronize()

        with torch.inference_mode():
            times[batch] = timed(step, steps)
    return times


def renderer(provider):
    """Stands for what a host draws in a frame, about WORK seconds of the device: a function."""
    if provider == "cuda":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        a, stream = torch.randn(2048, 2048, device="cuda"), torch.cuda.Stream(priority=-1)

        def draw(count):
            with torch.cuda.stream(stream):
                for _ in range(count):
                    torch.mm(a, a)
            stream.synchronize()
    else:
        import numpy as np

        a = np.random.default_rng(0).standard_normal((128, 128), dtype=np.float32)

        def draw(count):
            for _ in range(count):
                a @ a

    draw(20)
    began = time.perf_counter()
    draw(20)
    count = max(1, round(20 * WORK / (time.perf_counter() - began)))
    return lambda: draw(count)


def worker_frames(library, onnx_file, provider, frames):
    """Times of the host's own work in a loop of 60 frames a second: alone, and with a step in every frame."""
    draw, ours = renderer(provider), Library(library)
    engine, _ = ours.engine(onnx_file, provider)
    stream, result = ours.stream(engine, "ddim", 1000), {"idle": [], "stepping": []}
    for turn in range(4):
        kind, seconds = ("idle", "stepping")[turn % 2], []
        due = time.perf_counter()
        for _ in range(frames):
            due += PERIOD
            time.sleep(max(0.0, due - time.perf_counter()))
            if kind == "stepping" and ours.check(ours.lib.ddpm_step(stream)) == ours.number["DDPM_DONE"]:
                ours.check(ours.lib.ddpm_stream_reset(stream, ctypes.c_uint64(SEED)))
            began = time.perf_counter()
            draw()
            seconds.append(1e3 * (time.perf_counter() - began))
        result[kind] += seconds[COLD:]
        ours.check(ours.lib.ddpm_stream_wait(stream, ctypes.c_uint32(ours.number["DDPM_WAIT_FOREVER"])))
    ours.check(ours.lib.ddpm_stream_destroy(stream))
    ours.check(ours.lib.ddpm_engine_destroy(engine))
    return {kind: sorted(times) for kind, times in result.items()}


class Failed(Exception):
    """Why a measurement gave nothing."""


class Acceptance:
    def __init__(self, options):
        self.options = options
        self.began = time.monotonic()
        self.faults = []
        self.environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}

    def left(self):
        return self.options.seconds - (time.monotonic() - self.began)

    def run(self, command, what):
        """Runs a process to its end; its output. Raises Failed."""
        left = self.left()
        if left < 5:
            raise Failed("left out: no time left")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left, env=self.environment)
        except subprocess.TimeoutExpired:
            raise Failed("broken off: no time left") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            said = next((line for line in said if line.startswith("ddpm: error: ")), said[-1])
            raise Failed(f"{what}: {said[:300]}")
        return done.stdout

    def work(self, task, **arguments):
        text = self.run([sys.executable, __file__, "--worker", json.dumps({"task": task} | arguments)], task)
        return json.loads(text.strip().splitlines()[-1])

    def steps(self, files, model, fused):
        """Steps of libddpm: {batch: ms}; and a row on the copies."""
        options = self.options
        found = self.work(
            "steps", library=str(options.library), onnx_file=files["onnx_file"], provider=options.provider, fused=fused,
            cuda=options.cuda, batches=options.batches, steps=options.steps,
        )  # fmt: skip
        copies = ", ".join(f"{found[batch]['copies']:.2f}" for batch in found)
        self.row(f"{model}, step: fused {fused}: host_copies", copies, f"a stream and step; batch {', '.join(found)}")
        return {batch: found[batch]["ms"] for batch in found}

    def row(self, *cells):
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)

    def section(self, what, measure):
        """`measure` prints its rows; where it cannot, the row says why."""
        try:
            return measure()
        except Failed as reason:
            self.row(what, "-", str(reason))
        return None

    def pictures(self, model, files):
        """Correctness, and where the samples stay."""
        options, size = self.options, net_size(model)
        common = {"library": str(options.library), "onnx_file": files["onnx_file"], "size": size, "steps": options.steps}
        try:
            expected = self.work("pictures", provider="cpu", fused="off", **common)
        except Failed as reason:
            self.faults.append(f"{model}: {reason}")
            raise
        for fused in ("on", "off"):
            what = f"{model}, pictures, fused step {fused}"
            try:
                found = self.work("pictures", provider=options.provider, fused=fused, **common)
            except Failed as reason:
                self.faults.append(f"{what}: {reason}")
                self.row(what, "FAILS", reason)
                continue
            if fused == "on":
                memory = f", {found['free'] >> 20} of {found['memory'] >> 20} MiB free" if found["memory"] else ""
                device = found["device"] or "the CPU"
                self.row(f"{model}, load", f"{found['load']:.2f} s", f"{device}{memory}, ONNX Runtime {found['runtime']}")
            for sampler in SAMPLERS:
                share, worst = difference(found["pictures"][sampler], expected["pictures"][sampler], SAME[model])
                same = share <= SHARE
                if not same:
                    self.faults.append(f"{what}, {sampler}: another picture")
                verdict = f"±{worst} of 255" if same else f"DIFFERS: {share:.1%}, by up to {worst}"
                allowed = f"{options.steps} steps beside the CPU; allowed: ±{SAME[model]} for all but {SHARE:.0%} of the values"
                self.row(f"{what}, {sampler}", verdict, allowed)
                counted = f"{found['copies'][sampler]} in {options.steps} steps"
                self.row(f"{what}, {sampler}: host_copies", counted, "copies of the state to or from the host")
            if found["fused"] != (fused == "on"):
                self.faults.append(f"{what}: the engine says {found['fused']}")

    def speed(self, model, files):
        options = self.options
        common = {"provider": options.provider, "batches": options.batches, "steps": options.steps}
        rivals = {
            "fused step": lambda: self.steps(files, model, "on"),
            "with copies to the host": lambda: self.steps(files, model, "off"),
            "bare session": lambda: self.work("bare", onnx_file=files["onnx_file"], size=net_size(model), **common),
            "PyTorch, eager": lambda: self.torch(model, files, False, common),
            "PyTorch, compiled": lambda: self.torch(model, files, True, common),
        }
        ours = None
        for name, measure in rivals.items():
            what = f"{model}, step: {name}"
            try:
                times = measure()
            except Failed as reason:
                self.row(what, "-", reason)
                continue
            ours = ours or times
            values = ", ".join(f"{times[key]:.3f}" for key in times)
            ratios = ", ".join(f"{times[key] / ours[key]:.2f}" for key in times if key in ours)
            self.row(what, f"{values} ms", f"batch {', '.join(times)}; over the first of these rows: {ratios}")

    def torch(self, model, files, compiled, common):
        arguments = {"model": model, "weights_file": files["weights_file"], "threads": self.options.threads}
        return self.work("torch", compiled=compiled, **arguments, **common)

    def frames(self, model, files):
        found = self.work(
            "frames", library=str(self.options.library), onnx_file=files["onnx_file"],
            provider=self.options.provider, frames=self.options.frames,
        )  # fmt: skip
        for share in (0.5, 0.99):
            idle, stepping = (found[kind][round(share * (len(found[kind]) - 1))] for kind in ("idle", "stepping"))
            note = f"{stepping:.2f} ms with a step a frame, {idle:.2f} ms without; 60 frames a second"
            self.row(f"{model}, frame's own work, p{share * 100:.0f}", f"{stepping / idle:.3f} times", note)

    def everything(self):
        options = self.options
        self.row("what", "found", "how")
        self.row("---", "---:", "---")
        files = {}
        for model in options.models:
            folder = {"folder": str(options.folder), "threads": options.threads}
            made = self.section(f"{model}, model", lambda m=model, f=folder: self.work("models", model=m, **f))
            # The shipped model needs nothing made but for PyTorch.
            shipped = {"onnx_file": str(ROOT / "assets/portraits.onnx"), "weights_file": "none"}
            files[model] = made or (shipped if model == "portraits" else None)
        known = [model for model in options.models if files[model]]
        for part in (self.pictures, self.frames, self.speed):
            for model in known:
                self.section(f"{model}, {part.__name__}", lambda p=part, m=model: p(m, files[m]))
        self.row("time", f"{time.monotonic() - self.began:.0f} s", f"of {options.seconds}")
        for fault in self.faults:
            print(f"FAULT: {fault}")
        return 1 if self.faults else 0


WORKERS = {
    "models": worker_models, "pictures": worker_pictures, "steps": worker_steps, "bare": worker_bare, "torch": worker_torch,
    "frames": worker_frames,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small batches and few steps, to see that it runs")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=460)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on the CPU")
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "target/release", help="where the built files are")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/accept", help="for the models made here")
    parser.add_argument("--cuda", type=json.loads, default={}, help='fields of ddpm_cuda_desc for the steps: {"stream": 2}')
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker.pop("task")](**options.worker)))
        return 0
    options.batches = options.batches or ([1, 2] if options.quick else [1, 8, 64])
    options.steps, options.frames = (5, 30) if options.quick else (50, 240)
    options.library = options.target / "libddpm.so"
    if not options.library.exists():
        sys.exit(f"{options.library}: not there; cargo build --release -p ddpm, or name its folder with --target")
    return Acceptance(options).everything()


if __name__ == "__main__":
    sys.exit(main())
