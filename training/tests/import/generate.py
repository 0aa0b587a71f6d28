#!/usr/bin/env python3
"""Writes the tiny models of diffusers that tests/import.rs imports, with outputs of theirs.

    pip install torch diffusers safetensors
    python3 training/tests/import/generate.py

The files here were made with diffusers 0.42.1, torch 2.15.0 and safetensors 0.8.0. Each folder is what
`save_pretrained` writes, and reference.safetensors: `sample`, `timestep`, `class_labels` where the model
has classes, and `output`.
"""

import pathlib

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent

# What google/ddpm-cifar10-32 has, small.
PAPER = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_num_groups": 4,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}

# The defaults of the class where they can be; classes; a learned variance; other sides; stored as float16.
CLASSES = {
    "sample_size": (4, 8),
    "in_channels": 1,
    "out_channels": 2,
    "block_out_channels": (16, 8, 8),
    "layers_per_block": 1,
    "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    "norm_num_groups": 4,
    "num_class_embeds": 3,
    "time_embedding_dim": 32,
}


def write(name, config, scheduler, half):
    torch.manual_seed(1)
    model = UNet2DModel(**config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # None at its start, where a norm does nothing and a bias is small.
            parameter.add_(0.1 * torch.randn_like(parameter))
        if half:
            model.half().save_pretrained(HERE / name)
            model.float()
        else:
            model.save_pretrained(HERE / name)
        scheduler.save_pretrained(HERE / name)
        height, width = config["sample_size"] if isinstance(config["sample_size"], tuple) else [config["sample_size"]] * 2
        inputs = {
            "sample": torch.randn(3, config["in_channels"], height, width),
            "timestep": torch.tensor([0, 421, 999]),
        }
        if "num_class_embeds" in config:
            inputs["class_labels"] = torch.tensor([2, 0, 1])
        output = model(**inputs).sample
    save_file(inputs | {"output": output.contiguous()}, HERE / name / "reference.safetensors")


write("paper", PAPER, DDPMScheduler(variance_type="fixed_large"), half=False)
write(
    "classes",
    CLASSES,
    DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", prediction_type="v_prediction"),
    half=True,
)
