"""Makes the golden trajectories, or checks the recorded ones against what made them.

    pip install diffusers==0.42.1 torch==2.15.0 safetensors onnxruntime==1.31.1
    python generate.py --check          # replay the files of trajectories/ and print the distances
    python generate.py --write FOLDER   # run every case anew, with new noise, into FOLDER
    python generate.py --own FOLDER     # the same, only the cases of OWN

Files whose metadata names formulas.py as the generator are replayed and made with that; the others with
diffusers' schedulers.
"""

import argparse
import json
import pathlib
import sys

import diffusers
import numpy as np
import onnxruntime
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import formulas

HERE = pathlib.Path(__file__).parent
MODELS = {  # the network of each trajectory, where it is not eps_linear
    "ddpm_sample": "sample_linear",
    "ddpm_cosine_v": "v_cosine",
    "ddpm_class": "eps_linear_class",
    "ddpm_learned_range": "eps_cosine_learned_range",
    "ddpm_learned": "eps_cosine_learned_range",
    "ddim_noclip_scaled_offset": "eps_scaled",
    "lcm_4": "eps_scaled",
    "tcd_4": "eps_scaled",
    "pndm_10": "eps_scaled",
    "pndm_prk_6": "eps_scaled",
    # Fractional timesteps.
    "euler_20": "eps_linear_float",
    "euler_a_20": "eps_linear_float",
    "euler_karras": "eps_linear_float",
    # Recorded with networks that were not kept: these can be checked, not made anew.
    "ddpm_sigmoid": None,
    "ddpm_trailing_zero_snr_v": None,
    "euler_v_trailing": None,
}
CLASS_LABEL = 3

LINEAR = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
}
SCALED = LINEAR | {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COSINE = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
LAPLACE = COSINE | {"beta_schedule": "laplace"}


def own(scheduler, config, steps, generator="diffusers", **step_args):
    return {
        "scheduler": scheduler,
        "config": config,
        "num_inference_steps": steps,
        "step_args": step_args,
        "set_args": {},
        "generator": generator,
    }


def multistep(steps=8, generator="diffusers", **config):
    return own("DPMSolverMultistepScheduler", LINEAR | config, steps, generator)


OWN = {
    "tcd_4": own("TCDScheduler", SCALED, 4, eta=0.3),
    "deis_1": own("DEISMultistepScheduler", LINEAR | {"solver_order": 1}, 8),
    "deis_2": own("DEISMultistepScheduler", LINEAR | {"solver_order": 2}, 8),
    "deis_3": own("DEISMultistepScheduler", LINEAR | {"solver_order": 3}, 8),
    "pndm_10": own("PNDMScheduler", SCALED | {"skip_prk_steps": True, "steps_offset": 1}, 10),
    "pndm_prk_6": own("PNDMScheduler", SCALED | {"steps_offset": 1}, 6),
    "ddpm_laplace": own("DDPMScheduler", LAPLACE, 10) | {"betas": "formulas.py"},
    "ddpm_laplace_diffusers": own("DDPMScheduler", LAPLACE, 10),
    "ddpm_fixed_small_log": own("DDPMScheduler", LINEAR | {"variance_type": "fixed_small_log"}, 8),
    "ddpm_fixed_large_log": own(
        "DDPMScheduler", LINEAR | {"variance_type": "fixed_large_log"}, 8, "formulas.py"
    ),
    "ddpm_learned": own("DDPMScheduler", COSINE | {"variance_type": "learned"}, 8, "formulas.py"),
    "dpmpp_2m_heun": multistep(solver_type="heun"),
    "dpmpp_2m_exponential": multistep(use_exponential_sigmas=True),
    "dpmpp_sde_3m": multistep(
        10, "formulas.py", solver_order=3, algorithm_type="sde-dpmsolver++"
    ),
    "euler_karras": own("EulerDiscreteScheduler", LINEAR | {"use_karras_sigmas": True}, 8),
    "unipc_1": own("UniPCMultistepScheduler", LINEAR | {"solver_order": 1}, 8),
}


class Diffusers:
    """A scheduler of diffusers, fed with noise of our choice."""

    def __init__(self, recorded):
        config = dict(recorded["config"])
        if recorded.get("betas") == "formulas.py":
            # diffusers' laplace is another schedule.
            del config["beta_schedule"]
            config["trained_betas"] = formulas.laplace_betas(config["num_train_timesteps"])
        self.scheduler = getattr(diffusers, recorded["scheduler"])(**config)
        self.scheduler.set_timesteps(recorded["num_inference_steps"], **recorded["set_args"])
        if config.get("use_exponential_sigmas") and "DPM" in recorded["scheduler"]:
            # diffusers cuts these off where it rounds those of Karras's sigmas.
            sigmas = self.scheduler.sigmas[:-1].double().numpy()
            alphas = self.scheduler.alphas_cumprod.double().numpy()
            log_sigmas = np.log((1 - alphas) / alphas) / 2
            timesteps = [self.scheduler._sigma_to_t(sigma, log_sigmas) for sigma in sigmas]
            self.scheduler.timesteps = torch.tensor(np.round(timesteps), dtype=torch.int64)
        self.timesteps, self.step_args = self.scheduler.timesteps, recorded["step_args"]
        self.alphas_cumprod = self.scheduler.alphas_cumprod
        self.sigmas = getattr(self.scheduler, "sigmas", None)

    def start(self, draw):
        if isinstance(self.scheduler, diffusers.DDIMInverseScheduler):
            return draw((1, 3, 8, 8)).clamp(-1, 1)
        return draw((1, 3, 8, 8)) * self.scheduler.init_noise_sigma

    def scaled(self, x, t):
        return self.scheduler.scale_model_input(x, t)

    def step(self, model_output, t, x, draw):
        """Returns (prev, x0 or None, noise or None)."""
        drawn = []

        def randn_tensor(shape, generator=None, device=None, dtype=None, layout=None):
            # A learned variance has twice the sample's channels, and diffusers' noise has them too.
            drawn.append(draw(x.shape))
            return drawn[-1]

        sys.modules[type(self.scheduler).__module__].randn_tensor = randn_tensor
        self.scheduler.scale_model_input(x, t)
        out = self.scheduler.step(model_output, t, x, **self.step_args)
        x0 = getattr(out, "pred_original_sample", getattr(out, "denoised", None))
        solvers = diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler
        if isinstance(self.scheduler, solvers):
            x0 = self.scheduler.model_outputs[-1]
        return out.prev_sample, x0, drawn[0] if drawn else None


class Formulas:
    """A class of formulas.py, in float64 and rounded once to float32."""

    def __init__(self, recorded):
        of = formulas.SCHEDULERS[recorded["scheduler"]]
        self.scheduler = of(recorded["config"], recorded["num_inference_steps"])
        as_tensor = lambda name: torch.tensor(getattr(self.scheduler, name))
        self.timesteps, self.alphas_cumprod = as_tensor("timesteps"), as_tensor("alphas_cumprod")
        self.sigmas = as_tensor("sigmas") if hasattr(self.scheduler, "sigmas") else None

    def start(self, draw):
        return draw((1, 3, 8, 8))

    def scaled(self, x, t):
        return x

    def step(self, model_output, t, x, draw):
        drawn = []

        def randn(shape):
            drawn.append(draw(shape))
            return drawn[-1].double().numpy()

        wide = model_output.double().numpy(), int(t), x.double().numpy()
        prev, x0 = (torch.from_numpy(v).float() for v in self.scheduler.step(*wide, randn))
        return prev, x0, drawn[0] if drawn else None


def runner_of(recorded):
    return {"diffusers": Diffusers, "formulas.py": Formulas}[
        recorded.get("generator", "diffusers")
    ](recorded)


def recorded_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"])


def check(path):
    recorded, worst = recorded_of(path), 0.0
    runner = runner_of(recorded)
    with safe_open(path, "pt") as file:
        for k, t in enumerate(runner.timesteps):
            if f"x.{k}" not in file.keys():
                continue
            get = lambda name: file.get_tensor(f"{name}.{k}")
            draw = lambda shape: get("noise")
            prev, x0, _ = runner.step(get("model_output"), t, get("x"), draw)
            distances = [prev - get("prev")]
            if f"x0.{k}" in file.keys():
                distances.append(x0 - get("x0"))
            # A NaN would pass for a small distance in `max`.
            assert all(d.isfinite().all() for d in distances), (path.stem, k)
            worst = max([worst] + [float(d.abs().max()) for d in distances])
    print(f"{path.stem:28} {recorded.get('generator', 'diffusers'):12} {worst:.1e}")


def write(name, recorded, folder, seed=0):
    model = MODELS.get(name, "eps_linear")
    if model is None:
        return
    recorded = recorded | {"model": model}
    model = HERE / "models" / f"{model}.onnx"
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = {port.name: port for port in session.get_inputs()}
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    runner, generator = runner_of(recorded), torch.Generator().manual_seed(seed)
    draw = lambda shape: torch.randn(shape, generator=generator)
    x, tensors = runner.start(draw), {}
    for k, t in enumerate(runner.timesteps):
        timestep = np.asarray(t.numpy(), types[inputs["timestep"].type])
        feeds = {
            "sample": runner.scaled(x, t).float().numpy(),
            "timestep": timestep.reshape(inputs["timestep"].shape and [1]),
        }
        if "class_labels" in inputs:
            feeds["class_labels"] = np.array([CLASS_LABEL])
        model_output = torch.from_numpy(session.run(None, feeds)[0])
        prev, x0, noise = runner.step(model_output, t, x, draw)
        row = {"x": x, "model_output": model_output, "prev": prev, "x0": x0, "noise": noise}
        tensors |= {f"{what}.{k}": v.clone() for what, v in row.items() if v is not None}
        tensors[f"t.{k}"] = t.double().reshape(1)
        x = prev
    for what in ["timesteps", "alphas_cumprod", "sigmas"]:
        if getattr(runner, what) is not None:
            tensors[what] = getattr(runner, what).double()
    save_file(tensors, folder / f"{name}.safetensors", {"config": json.dumps(recorded)})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--own", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    paths = sorted((HERE / "trajectories").glob("*.safetensors"))
    cases = {path.stem: recorded_of(path) for path in paths} | OWN
    if args.check:
        for path in paths:
            check(path)
    for folder, chosen in [(args.write, cases), (args.own, OWN)]:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            for name, recorded in chosen.items():
                write(name, recorded, folder)


main()
