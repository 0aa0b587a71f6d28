#!/usr/bin/env python3
"""The graph that ddpm-train exports beside PyTorch's exports of the same network, in ONNX Runtime, in turns.

    pip install torch onnx onnxscript onnxruntime==1.31.1 numpy
    python3 benches/export_speed.py

The U-Net of training_speed.py takes the weights of the exported file, and torch.onnx.export writes it with
both of its exporters, the batch left open. The three graphs are shown to give the same output; then each
runs on the CPU provider, in random order, round after round, in several sessions that are set up as libddpm
sets them up: all optimisations, no spinning. A ratio is the median over the rounds of the other's time over that of
ddpm-train's graph in the same round. Last comes the profile by operator, from ONNX Runtime's own
clock, which adds 1 to 2 us to each node.

--also takes more ONNX files of the same inputs, an older export, say. Run it on a quiet machine: about
two minutes. Where others run too, --cpu takes the thread's processor time, on one thread only.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import statistics
import tempfile
import time
import tomllib
import warnings

import numpy as np
import onnxruntime
import torch
from training_speed import load_onnx, unet

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = "ddpm-train"
BATCHES = (1, 4, 8)
# Sums of float32 in different orders, of values of size 1.
TOLERANCE = 1e-4
TURN = 0.015  # seconds of runs in a row: long enough for the caches to hold this graph's weights
SETS = 6  # of sessions: where one lies in memory makes it 2 % faster or slower
PROFILED = 200  # runs
INPUTS, OUTPUTS = ["sample", "timestep"], ["out_sample"]


def exports(config, model, size, folder):
    """PyTorch's two exports of the network that `model` holds: name to file."""
    net = unet(config["model"]).eval()
    load_onnx(net, model)
    # The code that torch.export generates names every submodule, and "in" is a word of Python's.
    object.__setattr__(net, "in", net._modules.pop("in"))
    net.add_module("first", getattr(net, "in"))
    example = torch.randn(2, 3, *size), torch.tensor([500, 3])
    batch = torch.export.Dim("batch")
    how = {
        "PyTorch, dynamo": {"dynamo": True, "external_data": False, "verbose": False, "dynamic_shapes": ({0: batch}, {0: batch})},
        "PyTorch, TorchScript": {"dynamo": False, "dynamic_axes": {name: {0: "batch"} for name in INPUTS + OUTPUTS}},
    }
    files = {}
    for name, options in how.items():
        files[name] = f"{folder}/{len(files)}.onnx"
        torch.onnx.export(net, example, files[name], input_names=INPUTS, output_names=OUTPUTS, **options)
    return files


def session(file, threads, profile=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def feeds(batch, size):
    noise = np.random.default_rng(7).standard_normal((batch, 3, *size), dtype=np.float32)
    return {"sample": noise, "timestep": np.linspace(1, 999, batch).astype(np.int64)}


def check(files, size):
    """Ends the program where the graphs differ."""
    inputs = feeds(8, size)
    found = {name: session(file, 1).run(None, inputs)[0] for name, file in files.items()}
    rms = float(np.sqrt(np.square(found[OURS]).mean()))
    for name, value in found.items():
        worst = float(np.abs(value - found[OURS]).max())
        if not worst <= TOLERANCE or not rms > 0.1:
            raise SystemExit(f"{name} differs by {worst:.1e}, of values of root mean square {rms:.2f}: no times taken")
    worst = max(float(np.abs(value - found[OURS]).max()) for value in found.values())
    print(f"outputs differ by {worst:.1e} at most, of values of root mean square {rms:.2f}, allowed {TOLERANCE:.0e}\n")


def turns(files, batch, threads, size, seconds, clock):
    """Name to the times of one run, one a round."""
    inputs = feeds(batch, size)
    times = {name: [] for name in files}
    for _ in range(SETS):
        sessions = {name: session(files[name], threads) for name in random.sample(list(files), len(files))}

        def runs(name, count):
            start = clock()
            for _ in range(count):
                sessions[name].run(None, inputs)
            return (clock() - start) / count

        for name in files:
            runs(name, 3)
        count = max(1, round(TURN / runs(OURS, 3)))
        end = time.monotonic() + seconds / SETS
        while time.monotonic() < end:
            for name in random.sample(list(files), len(files)):
                runs(name, 1)  # its weights come back into the caches
                times[name].append(runs(name, count))
    return times


def measure(files, options, size, clock):
    names = [name for name in files if name != OURS]
    print("| batch | threads | " + OURS + " ms | " + " | ".join(f"{name} ms | ratio" for name in names) + " |")
    print("| ---: | ---: | ---: |" + " ---: | ---: |" * len(names))
    for threads in options.threads:
        for batch in BATCHES:
            times = turns(files, batch, threads, size, options.seconds, clock)
            row = [str(batch), str(threads), f"{1e3 * statistics.median(times[OURS]):.2f}"]
            for name in names:
                ratio = statistics.median(t / own for t, own in zip(times[name], times[OURS], strict=True))
                row += [f"{1e3 * statistics.median(times[name]):.2f}", f"{ratio:.3f}"]
            print("| " + " | ".join(row) + " |", flush=True)


def profiles(files, batch, size, folder):
    """Name to operator to its number of nodes and its microseconds in a run: each node's median, summed."""
    sessions = {name: session(file, 1, f"{folder}/profile") for name, file in files.items()}
    inputs = feeds(batch, size)
    for _ in range(max(20, PROFILED // batch // 4)):
        for name in random.sample(list(files), len(files)):
            for _ in range(4):
                sessions[name].run(None, inputs)
    found = {}
    for name, run in sessions.items():
        nodes = collections.defaultdict(list)
        for event in json.loads(pathlib.Path(run.end_profiling()).read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                nodes[event["args"]["op_name"], event["name"]].append(event["dur"])
        ops = found[name] = {}
        for (op, _), times in nodes.items():
            count, time_so_far = ops.get(op, (0, 0.0))
            ops[op] = count + 1, time_so_far + statistics.median(times)
    return found


def print_profiles(files, batch, size, folder):
    found = profiles(files, batch, size, folder)
    print(f"\n| batch {batch}, 1 thread: nodes, us | " + " | ".join(found) + " |\n| --- |" + " ---: |" * len(found))
    largest = collections.Counter()
    for ops in found.values():
        largest |= collections.Counter({op: time for op, (_, time) in ops.items()})
    for op, _ in largest.most_common():
        cells = [f"{ops[op][0]}, {ops[op][1]:.0f}" if op in ops else "" for ops in found.values()]
        print(f"| {op} | " + " | ".join(cells) + " |")
    sums = [[sum(values) for values in zip(*ops.values(), strict=True)] for ops in found.values()]
    print("| sum | " + " | ".join(f"{count}, {time:.0f}" for count, time in sums) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "training/configs/portraits.toml")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "assets/portraits.onnx", help="the export of that configuration")
    parser.add_argument("--also", type=pathlib.Path, nargs="*", default=[], help="more ONNX files")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=12.0, help="for each row")
    parser.add_argument("--cpu", action="store_true", help="processor time of the one thread, not time on the wall")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.cpu:
        options.threads = [1]
    elif os.getloadavg()[0] > 0.5:
        print(f"the load average was {os.getloadavg()[0]:.1f} at the start: where other programs run, the times mean little")
    config = tomllib.loads(options.config.read_text())
    size = config["data"]["height"], config["data"]["width"]
    with tempfile.TemporaryDirectory() as folder:
        files = {OURS: str(options.model), **exports(config, str(options.model), size, folder)}
        files |= {path.stem: str(path) for path in options.also}
        print(f"ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__}, {options.model.name}")
        check(files, size)
        measure(files, options, size, time.thread_time if options.cpu else time.perf_counter)
        for batch in (BATCHES[0], BATCHES[-1]):
            print_profiles(files, batch, size, folder)


if __name__ == "__main__":
    main()
