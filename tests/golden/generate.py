"""Makes the golden trajectories, or checks the recorded ones against diffusers.

    pip install diffusers==0.42.1 torch==2.15.0 safetensors onnxruntime==1.31.1
    python generate.py --check          # replay the files of trajectories/ and print the distances
    python generate.py --write FOLDER   # run every case anew, with new noise, into FOLDER
"""

import argparse
import json
import pathlib

import diffusers
import onnxruntime
import torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from safetensors import safe_open
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
MODELS = {  # the network of each trajectory, where it is not eps_linear
    "ddpm_sample": "sample_linear",
    "ddpm_cosine_v": "v_cosine",
    "ddim_noclip_scaled_offset": "eps_scaled",
    # Recorded with networks that were not kept: these can be checked, not made anew.
    "ddpm_sigmoid": None,
    "ddpm_trailing_zero_snr_v": None,
}


class RecordedNoise:
    """Hands a scheduler the noise of our choice, and remembers that it asked."""

    def __init__(self, draw):
        self.draw, self.last = draw, None

    def __call__(self, shape, generator=None, device=None, dtype=None, layout=None):
        self.last = self.draw(shape)
        return self.last


def scheduler_of(recorded):
    scheduler = getattr(diffusers, recorded["scheduler"])(**recorded["config"])
    scheduler.set_timesteps(recorded["num_inference_steps"], **recorded["set_args"])
    return scheduler


def step(recorded, scheduler, model_output, t, x, draw):
    """One scheduler step; returns (prev, x0, noise or None)."""
    noise = RecordedNoise(draw)
    for module in (scheduling_ddpm, scheduling_ddim):
        module.randn_tensor = noise
    out = scheduler.step(model_output, t, x, **recorded["step_args"])
    return out.prev_sample, out.pred_original_sample, noise.last


def check(path):
    with safe_open(path, "pt") as file:
        recorded = json.loads(file.metadata()["config"])
        scheduler, worst = scheduler_of(recorded), 0.0
        for k, t in enumerate(scheduler.timesteps):
            if f"x.{k}" not in file.keys():
                continue
            get = lambda name: file.get_tensor(f"{name}.{k}")
            draw = lambda shape: get("noise")
            prev, x0, _ = step(recorded, scheduler, get("model_output"), t, get("x"), draw)
            worst = max(worst, (prev - get("prev")).abs().max(), (x0 - get("x0")).abs().max())
    print(f"{path.stem:28} {float(worst):.1e}")


def write(path, folder, seed=0):
    with safe_open(path, "pt") as file:
        recorded = json.loads(file.metadata()["config"])
    model = MODELS.get(path.stem, "eps_linear")
    if model is None:
        return
    model = HERE / "models" / f"{model}.onnx"
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    scheduler, generator = scheduler_of(recorded), torch.Generator().manual_seed(seed)
    draw = lambda shape: torch.randn(shape, generator=generator)
    x, tensors = draw((1, 3, 8, 8)), {}
    for k, t in enumerate(scheduler.timesteps):
        feeds = {"sample": x.numpy(), "timestep": t.long().numpy()}
        model_output = torch.from_numpy(session.run(None, feeds)[0])
        prev, x0, noise = step(recorded, scheduler, model_output, t, x, draw)
        row = {"x": x, "model_output": model_output, "prev": prev, "x0": x0, "noise": noise}
        tensors |= {f"{name}.{k}": v.clone() for name, v in row.items() if v is not None}
        tensors[f"t.{k}"] = t.double().reshape(1)
        x = prev
    tensors["timesteps"] = scheduler.timesteps.double()
    tensors["alphas_cumprod"] = scheduler.alphas_cumprod.double()
    save_file(tensors, folder / path.name, {"config": json.dumps(recorded)})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    for path in sorted((HERE / "trajectories").glob("*.safetensors")):
        if args.check:
            check(path)
        if args.write:
            args.write.mkdir(parents=True, exist_ok=True)
            write(path, args.write)


main()
