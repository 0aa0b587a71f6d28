#!/usr/bin/env python3
"""Writes the default config of each scheduler class as diffusers saves it, next to this file.

Made with diffusers 0.42.1.
"""

import pathlib

import diffusers

HERE = pathlib.Path(__file__).parent
CLASSES = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "TCDScheduler",
]

for name in CLASSES:
    (HERE / f"{name}.json").write_text(getattr(diffusers, name)().to_json_string())
