#!/usr/bin/env python3
"""Compares unet.py with what ONNX Runtime computes, for the exports of one checkpoint.

    ddpm-train export checkpoint.safetensors -o model.onnx --weights weights.safetensors
    pip install torch safetensors numpy onnxruntime
    python3 training/pytorch/check.py weights.safetensors model.onnx

Ends with 1 where they differ by more than 2e-5: both sum in float32, in different orders, outputs of size 1.
"""

import argparse
import json
import sys

import onnxruntime
import torch
from safetensors import safe_open

import unet

TOLERANCE = 2e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("model")
    options = parser.parse_args()
    net = unet.load(options.weights)
    with safe_open(options.weights, "pt") as file:
        network = json.loads(file.metadata()["network"])
        last = json.loads(file.metadata()["diffusion"])["num_train_timesteps"] - 1
    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    timesteps = torch.linspace(0, last, 6).long()
    sample = torch.randn(6, network["channels_in"], network["height"], network["width"])
    inputs = {"sample": sample.numpy(), "timestep": timesteps.numpy()}
    labels = None
    if network["labels"]:
        labels = torch.arange(6) % network["labels"]
        inputs["class_labels"] = labels.numpy()
    expected = torch.from_numpy(session.run(None, inputs)[0])
    with torch.no_grad():
        found = net(sample, timesteps, labels)
    worst = (found - expected).abs().max().item()
    size = expected.square().mean().sqrt().item()
    print(f"largest difference {worst:.1e} over {expected.numel()} values of root mean square {size:.2f}")
    if not worst <= TOLERANCE or size == 0:
        sys.exit(f"expected at most {TOLERANCE:.0e}, of values that are not all 0")


if __name__ == "__main__":
    main()
