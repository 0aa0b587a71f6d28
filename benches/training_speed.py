#!/usr/bin/env python3
"""Training speed of ddpm-train beside PyTorch: same network, same batch, same machine, in turns.

    cargo build --release -p ddpm-train
    make fetch                                    # ONNX Runtime, for the export that is compared
    pip install torch safetensors numpy onnxruntime
    python3 benches/training_speed.py

First the two networks are shown to be the same one: ddpm-train fits a few steps and exports; the
U-Net of training/pytorch loads the weights of that checkpoint and must give what the exported graph gives.
Then every contender trains in a process of its own, one after the other, round after round. A step
is forward pass, mean square error, backward pass, clipping to norm 1, AdamW, running average of
the weights and reading the loss; for ddpm-train also making the batch. The first steps are left
out. PyTorch runs eager (--compile for compiled), in both memory layouts, with the faster of its
two AdamW and with freed memory kept by malloc, as ddpm-train keeps it.

Prints a table in Markdown, after some 5 minutes on two cores. Run it on a quiet machine. Needs Python
3.11 or newer.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

# PyTorch is imported in child processes only: Linux counts the memory of the process that starts
# another into the peak of the new one.

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = "ddpm-train"
LAYOUTS = {"PyTorch NCHW": False, "PyTorch channels_last": True}
# Both sum in float32, in different orders, outputs of size 1: 3e-6 is seen. An epsilon of the group
# normalisation that is wrong by a factor of ten makes 8e-5.
TOLERANCE = 2e-5
WARM_UP = 3  # steps of PyTorch with each AdamW before the clock counts
# glibc returns every large block to the system and faults it in anew each step; with these it keeps them.
KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864"


def unet(model):
    """The network of training/pytorch/unet.py; its state dict has the names of the checkpoint."""
    sys.path.insert(0, str(ROOT / "training/pytorch"))
    from unet import UNet

    return UNet(model)


def load(net, checkpoint, prefix):
    """Fills `net` from a checkpoint: kernels there are [k, k, in, out], matrices [in, out]."""
    from safetensors import safe_open

    state = {}
    with safe_open(checkpoint, "pt") as file:
        for key in file.keys():
            if not key.startswith(prefix):
                continue
            name, tensor = key.removeprefix(prefix), file.get_tensor(key)
            name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[tensor.dim()]
            state[name] = tensor.permute(order).contiguous()
    net.load_state_dict(state, strict=True)


def load_onnx(net, model):
    """Fills `net` from the initialisers of an export of ddpm-train, which have the names of the checkpoint."""
    import numpy as np
    import onnx
    import torch

    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}
    state = {}
    for name, expected in net.state_dict().items():
        stored = name if name in tensors else name.replace(".weight", ".gamma").replace(".bias", ".beta")
        value = torch.from_numpy(np.array(tensors[stored]))
        # Matrices are stored [in, out].
        state[name] = (value.T if value.dim() == 2 else value).reshape(expected.shape).contiguous()
    net.load_state_dict(state, strict=True)


def worker_check(config, folder, threads):
    """Compares `net` with the graph that ddpm-train exported, over the layouts and timesteps."""
    import onnxruntime
    import torch

    torch.set_num_threads(threads)
    net = unet(config["model"])
    load(net, f"{folder}/checkpoint.safetensors", "ema.")
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    last = config["diffusion"]["num_train_timesteps"] - 1
    timesteps = torch.linspace(0, last, 8).long()
    sample = torch.randn(8, 3, config["data"]["height"], config["data"]["width"])
    expected = session.run(None, {"sample": sample.numpy(), "timestep": timesteps.numpy()})[0]
    expected = torch.from_numpy(expected)
    worst = 0.0
    for channels_last in LAYOUTS.values():
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net.to(memory_format=layout)
        with torch.no_grad():
            found = net(sample.to(memory_format=layout), timesteps)
        worst = max(worst, (found - expected).abs().max().item())
    return {
        "worst": worst,
        "size": expected.square().mean().sqrt().item(),
        "values": 2 * expected.numel(),
        "weights": sum(p.numel() for p in net.parameters()),
    }


def worker_time(config, batch, steps, threads, channels_last, compiled):
    """Seconds of each of `steps` training steps, as `train_step` of training/src/fit.rs takes them."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(config["seed"])
    train, data, last = config["train"], config["data"], config["diffusion"]["num_train_timesteps"]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = unet(config["model"]).to(memory_format=layout)
    parameters = list(net.parameters())
    average = [p.detach().clone() for p in parameters]
    decayed = [p for p in parameters if p.dim() > 1]
    others = [p for p in parameters if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": train["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    run = torch.compile(net) if compiled else net

    def step(optimizer):
        shape = (batch, 3, data["height"], data["width"])
        noisy = torch.randn(shape).to(memory_format=layout)
        target = torch.randn(shape).to(memory_format=layout)
        timesteps = torch.randint(0, last, (batch,))
        start = time.perf_counter()
        loss = (run(noisy, timesteps) - target).square().mean()
        loss.item()
        loss.backward()
        backward_done = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(parameters, train["max_grad_norm"], foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1.0 - train["ema_decay"])
        end = time.perf_counter()
        return end - start, end - backward_done

    def optimizer(kind):
        return torch.optim.AdamW([dict(group) for group in groups], lr=train["learning_rate"], **{kind: True})

    trial = {}
    for kind in ("foreach", "fused"):
        candidate = optimizer(kind)
        trial[kind] = min(step(candidate)[1] for _ in range(WARM_UP))
    best = min(trial, key=trial.get)
    chosen = optimizer(best)
    step(chosen)
    return {"seconds": [step(chosen)[0] for _ in range(steps)], "adamw": best, "torch": torch.__version__}


def child(command, threads, environment=None):
    """Runs a process to its end; returns its output and its peak memory in MiB."""
    variables = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, env=os.environ | variables | (environment or {})
    )
    output = process.stdout.read().decode()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with exit status {process.returncode}: {' '.join(map(str, command))}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
    return output, usage.ru_maxrss * unit / 2**20


def work(task, threads, **arguments):
    """Calls worker_`task` in a process of its own."""
    arguments |= {"task": task, "threads": threads}
    command = [sys.executable, __file__, "--worker", json.dumps(arguments)]
    output, peak = child(command, threads, {"GLIBC_TUNABLES": KEEP_MEMORY})
    return json.loads(output), peak


def prove_equal(config, binary, threads):
    """Fits a few steps with `binary` and compares the networks. Ends the program where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        # A fast start, so that the layers that start at zero contribute.
        short = {"steps": 40, "batch": 16, "learning_rate": 4e-3, "warmup_steps": 4, "ema_decay": 0.9}
        changed = config | {
            "out": folder,
            "train": config["train"] | short,
            "report": config["report"] | {"checkpoint_every": short["steps"], "sample_every": 0},
        }
        path = pathlib.Path(folder, "config.toml")
        path.write_text(toml_of(changed))
        child([binary, "fit", "--config", path], threads)
        child([binary, "export", f"{folder}/checkpoint.safetensors", "-o", f"{folder}/model.onnx"], threads)
        found, _ = work("check", threads, config=changed, folder=folder)
    print(
        f"networks: {found['weights']} weights, largest difference {found['worst']:.1e} over "
        f"{found['values']} values of root mean square {found['size']:.2f}, allowed {TOLERANCE:.0e}",
        flush=True,
    )
    if not found["worst"] <= TOLERANCE or not found["size"] > 0.1:
        sys.exit("the networks differ, or give nothing to compare: no times taken")
    print("they are the same", flush=True)


def toml_of(config):
    """TOML with the tables of a configuration; its values are written in TOML as in JSON."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in config.items() if not isinstance(value, dict)]
    for name, table in config.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(plain) + "\n"


def measure(config, path, options, batch):
    """Takes the times of one batch size; returns the rows of the table."""
    size = config["data"]["width"]
    medians, peaks, note = {}, {}, {}
    for turn in range(options.rounds):
        for name in [OURS, *LAYOUTS]:
            if name == OURS:
                command = [options.binary, "time", "--config", path, "--batch", batch, "--steps", options.steps]
                output, peak = child(command, options.threads)
                times = [float(line) for line in output.split()]
            else:
                found, peak = work(
                    "time", options.threads, config=config, batch=batch, steps=options.steps,
                    channels_last=LAYOUTS[name], compiled=options.compile,
                )  # fmt: skip
                times = found["seconds"]
                note[name] = f"{name} ({found['torch']}, AdamW {found['adamw']})"
            medians.setdefault(name, []).append(statistics.median(times))
            peaks[name] = max(peak, peaks.get(name, 0.0))
        shown = ", ".join(f"{name} {1e3 * times[-1]:.1f} ms" for name, times in medians.items())
        print(f"{size}x{size}, batch {batch}, round {turn + 1}: {shown}", file=sys.stderr, flush=True)
    rows = []
    for name, times in medians.items():
        # Of each round: what loads the machine meanwhile slows all of them.
        ratios = sorted(min(medians[layout][turn] for layout in LAYOUTS) / times[turn] for turn in range(options.rounds))
        median = statistics.median(times)
        rows.append(
            f"| {size}x{size} | {batch} | {note.get(name, name)} | {1e3 * median:.1f} | {batch / median:.0f}"
            f" | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} | {peaks[name]:.0f} |"
        )
    return rows


def at_size(config, size, folder):
    """The configuration with images of that size, cut from the same sheet; and a file with it."""
    changed = config | {"data": config["data"] | {"width": size, "height": size}}
    path = pathlib.Path(folder, f"{size}.toml")
    path.write_text(toml_of(changed))
    return changed, path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "training/configs/portraits.toml")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/ddpm-train")
    parser.add_argument("--size", type=int, nargs="+", default=[16, 32], help="width and height of the images")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true", help="PyTorch through torch.compile")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        task = options.worker.pop("task")
        print(json.dumps({"check": worker_check, "time": worker_time}[task](**options.worker)))
        return
    if not options.binary.exists():
        sys.exit(f"{options.binary}: not there; cargo build --release -p ddpm-train, or name it with --binary")
    config = tomllib.loads(options.config.read_text())
    config["data"]["sheet"] = str((options.config.parent / config["data"]["sheet"]).resolve())
    load = os.getloadavg()[0]
    prove_equal(config, options.binary, options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.size:
            changed, path = at_size(config, size, folder)
            for batch in options.batch:
                rows += measure(changed, path, options, batch)
    print(f"{options.threads} threads, {options.rounds} rounds of {options.steps} steps; load average at the start {load:.1f}")
    if load > 0.5:
        print("Other programs ran: the times mean little, and the ratios are to be read with their range.")
    print("\n| images | batch | | ms a step | images/s | of PyTorch | range | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    print(
        "\nms: median of the rounds' medians; of PyTorch: speed over that of the faster PyTorch of the same"
        " round, median and range over the rounds; MiB: peak memory of the process, its libraries with it"
    )

if __name__ == "__main__":
    main()
