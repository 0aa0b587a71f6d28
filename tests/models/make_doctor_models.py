#!/usr/bin/env python3
"""Builds the models that `ddpm doctor` is tested on, next to this file: sound ones, and each fault by itself.

Made with onnx 1.23.2 and numpy 2.4.6. Running it again gives the same bytes.

All are exact: where the values of a picture are independent and normal, with the mean MU of their channel and
the deviation TAU, the best prediction is linear in the sample, and these give it. A model trained for ever on
such pictures would be one of them.
"""

import numpy as np

from make_models import COLUMN, F32, I64, SAMPLE, alphas_cumprod, const, node, tensor, write

MU = np.array([0.5, 0.0, -0.4])
TAU = 0.25
T = 1000

SOUND = {
    "ddpm.version": "1", "ddpm.prediction_type": "epsilon", "ddpm.beta_schedule": "linear",
    "ddpm.beta_start": "0.0001", "ddpm.beta_end": "0.02", "ddpm.num_train_timesteps": str(T),
    "ddpm.rescale_betas_zero_snr": "false", "ddpm.variance_type": "fixed_small", "ddpm.clip_sample_range": "1",
    "ddpm.color": "rgb",
}


def cosine():
    """alpha_bar of squaredcos_cap_v2."""
    at = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - at[1:] / at[:-1], 0.999))


def tables(kind, a, tau=TAU):
    """(of the sample, of the mean), for each t: what a model of this kind gives is their combination."""
    # x_0 given x_t: MU + gain (x_t - sqrt(a) MU).
    gain = np.sqrt(a) * tau**2 / (a * tau**2 + 1 - a)
    x0 = np.array([gain, 1 - gain * np.sqrt(a)])
    noise = (np.array([np.ones(T), np.zeros(T)]) - np.sqrt(a) * x0) / np.sqrt(1 - a)
    if kind == "sample":
        return x0
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return np.sqrt(a) * noise - np.sqrt(1 - a) * x0
    # The mean of q(x_{t-1} | x_t, x_0), eq. 7 of the DDPM paper.
    before = np.concatenate([[1.0], a[:-1]])
    alpha = a / before
    of_x0 = np.sqrt(before) * (1 - alpha) / (1 - a)
    of_x = np.sqrt(alpha) * (1 - before) / (1 - a)
    return of_x0 * x0 + np.array([of_x, np.zeros(T)])


def nodes(index="timestep", output="out_sample"):
    """The combination at the timesteps `index`."""
    return [
        node("Gather", ["of_sample", index], ["a"]),
        node("Gather", ["of_mean", index], ["b"]),
        node("Reshape", ["a", "column"], ["a4"]),
        node("Reshape", ["b", "column"], ["b4"]),
        node("Mul", ["a4", "sample"], ["ax"]),
        node("Mul", ["b4", "mu"], ["bm"]),
        node("Add", ["ax", "bm"], [output]),
    ]


def weights(kind="epsilon", a=None, mu=MU, tau=TAU):
    of_sample, of_mean = tables(kind, alphas_cumprod() if a is None else a, tau)
    return [const("of_sample", of_sample), const("of_mean", of_mean), COLUMN, const("mu", mu.reshape(1, 3, 1, 1))]


def doctor(name, graph, constants, metadata=SOUND, **options):
    write(f"doctor_{name}", graph, constants, metadata=metadata, **options)


def changed(**entries):
    return SOUND | {f"ddpm.{key}": value for key, value in entries.items()}


def main():
    for kind in ("epsilon", "sample", "v_prediction", "mean"):
        doctor(kind, nodes(), weights(kind), changed(prediction_type=kind))

    # Not exact for its pictures, whose values as 0 to 1 would suit it as well.
    doctor("bright", nodes(), weights(mu=np.full(3, 0.85), tau=0.18))

    # How it is fed.
    doctor("zero_to_one", nodes(), weights(mu=(MU + 1) / 2, tau=TAU / 2))
    doctor("bgr", nodes(), weights(mu=MU[::-1]))
    unsaid = {key: value for key, value in SOUND.items() if "beta" not in key}
    doctor("cosine_unsaid", nodes(), weights(a=cosine()), unsaid)
    # Half a step more, so that t / 1000 * 1000 is not cut to t - 1.
    unit = [node("Mul", ["timestep", "thousand"], ["steps"]), node("Add", ["steps", "half"], ["rounded"]),
            node("Clip", ["rounded", "zero", "last"], ["held"]), node("Cast", ["held"], ["index"], to=I64)]
    doctor("unit_time", unit + nodes("index"), weights() + [
        const("thousand", 1000.0), const("half", 0.5), const("zero", 0.0), const("last", 999.0)],
           timestep=(F32, ["N"]))

    # What an export breaks.
    doctor("constant_timestep", nodes("five_hundred"), weights() + [const("five_hundred", [500], np.int64)])
    baked = [node("Reshape", ["whole", "shape"], ["out_sample"])]
    doctor("baked_batch", nodes(output="whole") + baked, weights() + [const("shape", [1, 3, 8, 8], np.int64)])
    # Shape inference cannot see what a run gives.
    hidden = [node("ReduceMax", ["timestep"], ["t"], keepdims=0), node("Min", ["t", "nothing"], ["zero"]),
              node("Add", ["shape", "zero"], ["seen"]), node("Reshape", ["whole", "seen"], ["out_sample"])]
    doctor("hidden_batch", nodes(output="whole") + hidden, weights() + [
        const("shape", [1, 3, 8, 8], np.int64), const("nothing", 0, np.int64)])
    mean = [node("ReduceMean", ["whole"], ["company"], axes=[0], keepdims=1),
            node("Sub", ["whole", "company"], ["apart"]), node("Add", ["apart", "whole"], ["out_sample"])]
    doctor("leaking_batch", nodes(output="whole") + mean, weights())
    first = [node("Slice", ["timestep", "zero", "one"], ["first"])]
    doctor("first_timestep", first + nodes("first"), weights() + [
        const("zero", [0], np.int64), const("one", [1], np.int64)])
    # Down and up by 8, as a network with three halvings.
    down = [node("AveragePool", ["whole"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
            node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
            node("Mul", ["large", "little"], ["added"]), node("Add", ["whole", "added"], ["out_sample"])]
    doctor("size_of_8", nodes(output="whole") + down,
           weights() + [const("scales", [1.0, 1.0, 8.0, 8.0]), const("little", 0.01)],
           changed(width="16", height="16"), sample=["N", 3, "H", "W"])
    # Finite in float32, infinite in float16 below t = 200.
    half = [node("Less", ["timestep", "limit"], ["early"]), node("Where", ["early", "huge", "unit"], ["by"]),
            node("Reshape", ["by", "column"], ["by4"]), node("Mul", ["whole", "by4"], ["scaled"]),
            node("Cast", ["scaled"], ["narrow"], to=10), node("Cast", ["narrow"], ["out_sample"], to=F32)]
    doctor("half_overflow", nodes(output="whole") + half, weights() + [
        const("limit", 200, np.int64), const("huge", 1e6), const("unit", 1.0)])
    doctor("loud", nodes(output="whole") + [node("Mul", ["whole", "five"], ["out_sample"])],
           weights() + [const("five", 5.0)])
    doctor("unused_labels", nodes(), weights(), changed(classes='["cat", "dog", "owl"]'),
           extra_inputs=[tensor("class_labels", I64, ["N"])])
    # A table for two, and three names.
    look_up = [node("Gather", ["classes", "class_labels"], ["of_class"]),
               node("Reshape", ["of_class", "column"], ["of_class4"]),
               node("Add", ["whole", "of_class4"], ["out_sample"])]
    doctor("too_many_names", nodes(output="whole") + look_up, weights() + [const("classes", [0.0, 0.1])],
           changed(classes='["cat", "dog", "owl"]'), extra_inputs=[tensor("class_labels", I64, ["N"])])

    # What it says of itself.
    doctor("wrong_keys", nodes(), weights(),
           changed(color="cmyk", beta_end="2", num_train_timesteps="many", classes="cat"))
    doctor("wrong_width", nodes(), weights(), changed(width="24"))
    doctor("wrong_color", nodes(), weights(), changed(color="gray"))


if __name__ == "__main__":
    main()
