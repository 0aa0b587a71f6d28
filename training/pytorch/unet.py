"""The U-Net of ddpm-train as a PyTorch module: one file, to be copied into other projects.

    ddpm-train export checkpoint.safetensors --weights weights.safetensors

    import unet
    net = unet.load("weights.safetensors")
    noise = net(sample, timesteps)            # [n, c, h, w] in [-1, 1] scale, [n]; class labels [n] third

It is the network of training/src/network.rs, option by option; check.py beside it compares the two. Needs
torch, and safetensors to load.
"""

import json
import math

import torch
from torch import nn
from torch.nn import functional as F

# What may be missing from the table [model] of a configuration.
DEFAULTS = {
    "head_dim": None,
    "attention": None,
    "attention_up": False,
    "time_channels": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample": "2x2",
    "resample_keeps_channels": False,
    "padding": "zeros",
    "norm_eps": 1e-5,
}


def zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    def __init__(self, model, channels):
        super().__init__()
        self.heads = channels // model["head_dim"] if model["head_dim"] else model["heads"]
        self.norm = nn.GroupNorm(model["groups"], channels, eps=model["norm_eps"])
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, -1, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(2, 3).reshape(n, c, h, w)) + x


class Residual(nn.Module):
    def __init__(self, model, conv3, channels_in, channels_out, attend=False):
        super().__init__()
        groups, eps = model["groups"], model["norm_eps"]
        self.time = nn.Linear(model["time_dim"], channels_out)
        self.norm1, self.conv1 = nn.GroupNorm(groups, channels_in, eps=eps), conv3(channels_in, channels_out)
        self.norm2, self.conv2 = nn.GroupNorm(groups, channels_out, eps=eps), zero(conv3(channels_out, channels_out))
        if channels_in != channels_out:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)
        if attend:
            self.attention = Attention(model, channels_out)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        h = h + (self.skip(x) if hasattr(self, "skip") else x)
        return self.attention(h) if hasattr(self, "attention") else h


class Reduce(nn.Conv2d):
    """Halves the resolution."""

    def __init__(self, model, channels_in, channels_out):
        self.before, self.after = {"2x2": (0, 0), "3x3": (1, 1), "3x3_end": (0, 1)}[model["downsample"]]
        self.beyond = "circular" if model["padding"] == "circular" else "constant"
        super().__init__(channels_in, channels_out, 2 if model["downsample"] == "2x2" else 3, stride=2)

    def forward(self, x):
        if self.after:
            x = F.pad(x, (self.before, self.after) * 2, mode=self.beyond)
        return super().forward(x)


class UNet(nn.Module):
    """`model` is the table [model] of a configuration, `labels` the rows of the table of classes."""

    def __init__(self, model, channels_in=3, channels_out=None, labels=0):
        super().__init__()
        model = DEFAULTS | model
        channels, blocks, time_dim = model["channels"], model["blocks"], model["time_dim"]
        time_channels = model["time_channels"] or time_dim
        attends = [len(channels) - 1] if model["attention"] is None else model["attention"]
        attends_up = attends if model["attention_up"] else []
        keeps = model["resample_keeps_channels"]

        def conv3(channels_in, channels_out):
            return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode=model["padding"])

        def residual(channels_in, channels_out, attend=False):
            return Residual(model, conv3, channels_in, channels_out, attend)

        half = time_channels // 2
        steps = torch.arange(half, dtype=torch.float64) / (half - model["freq_shift"])
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * steps).float(), persistent=False)
        self.cosines_first, self.blocks = model["flip_sin_to_cos"], blocks
        self.time = nn.ModuleList([nn.Linear(time_channels, time_dim), nn.Linear(time_dim, time_dim)])
        if labels:
            self.label = nn.Embedding(labels, time_dim)
        width = channels[0]
        self.add_module("in", conv3(channels_in, width))
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleDict(), nn.ModuleList()
        skips = [width]
        for level, out in enumerate(channels):
            layers = nn.ModuleDict()
            if level > 0:
                reduced = width if keeps else out
                layers["reduce"] = Reduce(model, width, reduced)
                width = reduced
                skips.append(width)
            for block in range(blocks):
                layers[str(block)] = residual(width, out, level in attends)
                width = out
                skips.append(width)
            self.down.append(layers)
        for name in "01":
            self.middle[name] = residual(width, width)
        self.middle["attention"] = Attention(model, width)
        for level, out in reversed(list(enumerate(channels))):
            layers = nn.ModuleDict()
            for block in range(blocks + 1):
                layers[str(block)] = residual(width + skips.pop(), out, level in attends_up)
                width = out
            if level > 0:
                width = out if keeps else channels[level - 1]
                layers["enlarge"] = conv3(out, width)
            self.up.insert(0, layers)
        norm = nn.GroupNorm(model["groups"], width, eps=model["norm_eps"])
        self.out = nn.ModuleDict({"norm": norm, "conv": zero(conv3(width, channels_out or channels_in))})

    def forward(self, sample, timesteps, labels=None):
        angles = timesteps.float()[:, None] * self.frequencies
        parts = [angles.cos(), angles.sin()]
        time = torch.cat(parts if self.cosines_first else parts[::-1], 1)
        time = self.time[1](F.silu(self.time[0](time.to(sample.dtype))))
        if hasattr(self, "label"):
            time = time + self.label(labels)
        time = F.silu(time)
        h = getattr(self, "in")(sample)
        skips = [h]
        for layers in self.down:
            if "reduce" in layers:
                h = layers["reduce"](h)
                skips.append(h)
            for block in range(self.blocks):
                h = layers[str(block)](h, time)
                skips.append(h)
        h = self.middle["0"](h, time)
        h = self.middle["1"](self.middle["attention"](h), time)
        for layers in reversed(self.up):
            for block in range(self.blocks + 1):
                h = layers[str(block)](torch.cat([h, skips.pop()], 1), time)
            if "enlarge" in layers:
                h = layers["enlarge"](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.out["conv"](F.silu(self.out["norm"](h)))


def load(path):
    """The network of a file that `ddpm-train export --weights` wrote, as for inference."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        network = json.loads(file.metadata()["network"])
        state = {name: file.get_tensor(name) for name in file.keys()}
    net = UNet(network["model"], network["channels_in"], network["channels_out"], network["labels"])
    net.load_state_dict(state)
    return net.eval()
