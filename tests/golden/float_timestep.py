"""Derives models/eps_linear_float.onnx: eps_linear with a timestep of type float32.

    pip install onnx==1.23.2 onnxruntime==1.31.1 numpy safetensors
    python float_timestep.py            # writes the model, and checks it

Euler's linspace visits fractional timesteps, and its files were recorded with the fractions fed to the
network in float32. The exported graph takes int64, expands it, multiplies it by ones and casts it to
float32: with the types of the input and of those ones changed it is the network that was recorded.
"""

import pathlib

import numpy
import onnx
import onnxruntime
from safetensors import safe_open

HERE = pathlib.Path(__file__).parent
MODEL = HERE / "models" / "eps_linear_float.onnx"
RECORDED = ["euler_20", "euler_a_20"]
TOLERANCE = 1e-5  # two float32 implementations of one network


def derive():
    model = onnx.load(HERE / "models" / "eps_linear.onnx")
    (timestep,) = [port for port in model.graph.input if port.name == "timestep"]
    timestep.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    (ones,) = [node for node in model.graph.node if node.name == "/unet/ConstantOfShape"]
    (value,) = ones.attribute
    value.t.CopyFrom(onnx.numpy_helper.from_array(numpy.ones(1, numpy.float32)))
    # Types of the values in between were written for int64.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, MODEL)


def check():
    session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    for name in RECORDED:
        worst = 0.0
        with safe_open(HERE / "trajectories" / f"{name}.safetensors", "np") as file:
            sigmas = file.get_tensor("sigmas")
            for k, t in enumerate(file.get_tensor("timesteps")):
                x = file.get_tensor(f"x.{k}") / numpy.sqrt(1 + sigmas[k] ** 2)
                feeds = {"sample": x.astype("f4"), "timestep": numpy.asarray(t, "f4")}
                (found,) = session.run(None, feeds)
                worst = max(worst, numpy.abs(found - file.get_tensor(f"model_output.{k}")).max())
        print(f"{name:12} model_output {worst:.1e}")
        assert worst < TOLERANCE


derive()
check()
