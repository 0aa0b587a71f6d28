#!/usr/bin/env python3
"""Builds what exporters write, and what they should not have, in variants/ next to this file.

Made with onnx 1.23.2 and numpy 2.4.6. Running it again gives the same bytes. Each model that loads gives

    x / 2 + t / 1000 + label

in float32, in this order, unless `tests/onnx/variants.rs` says otherwise of it. Samples are [N, 3, 4, 4] and
the timestep is int64 [N] unless a variant is about something else.
"""

import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "variants"
F32, F16, BF16, F64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE
I64, I32, U8, BOOL = TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL
SIZE = ["N", 3, 4, 4]
node = helper.make_node


def const(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def value(name, number, dims):
    return helper.make_tensor_value_info(name, number, dims)


CONSTANTS = [const("half", 0.5), const("thousand", 1000.0), const("column", [-1, 1, 1, 1], np.int64)]


def net(sample="sample", timestep="timestep", out="out_sample", label=None):
    """The nodes of the answer, from float32 to float32."""
    nodes = [
        node("Cast", [timestep], ["time_f32"], to=F32),
        node("Reshape", ["time_f32", "column"], ["time4"]),
        node("Div", ["time4", "thousand"], ["part"]),
        node("Mul", [sample, "half"], ["halved"]),
        node("Add", ["halved", "part"], [out if label is None else "unlabelled"]),
    ]
    if label is not None:
        nodes += [
            node("Cast", [label], ["label_f32"], to=F32),
            node("Reshape", ["label_f32", "column"], ["label4"]),
            node("Add", ["unlabelled", "label4"], [out]),
        ]
    return nodes


def write(name, nodes, inputs, outputs, constants=CONSTANTS, *, opset=17, ir=8, functions=(), domains=(), metadata=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="ddpm-tests", functions=list(functions))
    model.ir_version = ir
    for key, text in metadata:
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def plain(name, *, sample=("sample", F32, SIZE), timestep=("timestep", I64, ["N"]), out=("out_sample", F32, SIZE),
          label=None, more_inputs=(), more_outputs=(), nodes=None, **options):
    """The answer, with these inputs and this output."""
    inputs = [value(*sample), value(*timestep), *([value(*label)] if label else []), *more_inputs]
    nodes = nodes or net(sample[0], timestep[0], out[0], label and label[0])
    write(name, nodes, inputs, [value(*out), *more_outputs], **options)


def names():
    for name, sample, timestep, out in (
        ("names_x_t", "x", "t", "eps"),
        ("names_input_time", "input", "time", "output"),
        ("names_latent_timesteps", "latent_model_input", "timesteps", "noise_pred"),
        ("names_noisy_ts", "noisy_sample", "ts", "pred"),
        ("names_tf", "serving_default_x:0", "serving_default_t:0", "StatefulPartitionedCall:0"),
        ("names_unknown", "foo", "bar", "baz"),
    ):
        plain(name, sample=(sample, F32, SIZE), timestep=(timestep, I64, ["N"]), out=(out, F32, SIZE))
    plain("names_label", timestep=("ts", I64, ["N"]), label=("classes", I64, ["N"]))
    plain("label_int32_float_time", timestep=("a", F32, ["N"]), label=("b", I32, ["N"]))
    plain("sigma", timestep=("sigma", F32, ["N"]))
    plain("no_timestep", timestep=("mask", BOOL, ["N"]))
    plain("timestep_column", timestep=("timestep", I64, ["N", 1]))
    plain("two_samples", more_inputs=[value("image", F32, SIZE)],
          nodes=[*net(out="plain"), node("Add", ["plain", "image"], ["out_sample"])])


def floats():
    def halves(name, sample, out, inside):
        """The answer computed in `inside`, with casts where the ends are of another type."""
        constants = [const("half", 0.5, np.float16), const("thousand", 1000.0, np.float16), CONSTANTS[2]]
        nodes = net("s", out="o") if inside == F32 else [
            node("Cast", ["timestep"], ["time_f32"], to=F16), *net("s", out="o")[1:]]
        nodes = [node("Cast", ["sample"], ["s"], to=inside), *nodes, node("Cast", ["o"], ["out_sample"], to=out)]
        plain(name, sample=("sample", sample, SIZE), out=("out_sample", out, SIZE), nodes=nodes,
              constants=CONSTANTS if inside == F32 else constants)

    halves("float16", F16, F16, F16)
    halves("float16_input", F16, F32, F32)
    halves("float16_output", F32, F16, F32)
    halves("float16_inside", F32, F32, F16)
    for name, number in (("bfloat16", BF16), ("float64", F64), ("uint8", U8)):
        halves(f"{name}_sample", number, F32, F32)
    halves("float64_output", F32, F64, F32)


def shapes():
    def baked(batch):
        return [*net(out="loose"), node("Reshape", ["loose", "baked"], ["out_sample"])], [
            *CONSTANTS, const("baked", [batch, 3, 4, 4], np.int64)]

    for batch in (1, 2):
        nodes, constants = baked(batch)
        plain(f"batch_{batch}_baked", nodes=nodes, constants=constants)
        # Back to the sample's own shape, so that the graph says nothing of it.
        plain(f"batch_{batch}_hidden", nodes=[
            *nodes[:-1], node("Reshape", ["loose", "baked"], ["one"]), node("Shape", ["sample"], ["shape"]),
            node("Reshape", ["one", "shape"], ["out_sample"])], constants=constants)
    plain("batch_of_the_timestep", timestep=("timestep", I64, [2]))
    plain("batches_differ", sample=("sample", F32, [3, 3, 4, 4]), timestep=("timestep", I64, [2]),
          nodes=[node("Mul", ["sample", "half"], ["out_sample"])], out=("out_sample", F32, [3, 3, 4, 4]))
    plain("batch_0", sample=("sample", F32, [0, 3, 4, 4]), out=("out_sample", F32, [0, 3, 4, 4]))
    plain("size_0", sample=("sample", F32, ["N", 3, 0, 0]), out=("out_sample", F32, ["N", 3, 0, 0]))
    plain("size_symbolic", sample=("sample", F32, ["batch", 3, "height", "width"]), out=("out_sample", F32, ["batch", 3, "height", "width"]))
    plain("dims_of_one_name", sample=("sample", F32, ["N", 3, "N", "N"]), out=("out_sample", F32, ["N", 3, "N", "N"]))
    plain("channels_last", sample=("sample", F32, ["N", 8, 8, 3]), out=("out_sample", F32, ["N", 8, 8, 3]))
    plain("output_undeclared", out=("out_sample", F32, None))
    # Shape inference cannot tell how many numbers Compress leaves, so the output's rank stays open.
    plain("output_unknown", out=("out_sample", F32, None), nodes=[
        *net(out="known"),
        node("Shape", ["known"], ["shape"]),
        node("ReduceMax", ["timestep"], ["latest"], keepdims=0),
        node("Add", ["latest", "ones"], ["positive"]),
        node("Greater", ["positive", "zero"], ["all"]),
        node("Compress", ["shape", "all"], ["same"]),
        node("Reshape", ["known", "same"], ["out_sample"]),
    ], constants=[*CONSTANTS, const("ones", [1] * 4, np.int64), const("zero", 0, np.int64)])
    plain("output_scalar", out=("mean", F32, []),
          nodes=[*net(out="known"), node("ReduceMean", ["known"], ["mean"], keepdims=0)])
    plain("rank_3", sample=("sample", F32, ["N", 3, 16]), out=("out_sample", F32, ["N", 3, 16]))


def graphs():
    plain("opset_7", opset=7, ir=3, more_inputs=[value(each.name, each.data_type, each.dims) for each in CONSTANTS])
    plain("opset_newest", opset=24, ir=12)
    body = helper.make_function(
        "local", "Answer", ["sample", "timestep"], ["out_sample"],
        [*(node("Constant", [], [each.name], value=each) for each in CONSTANTS), *net()],
        [helper.make_opsetid("", 17)])
    plain("function", nodes=[node("Answer", ["sample", "timestep"], ["out_sample"], domain="local")], constants=(),
          functions=[body], domains=["local"])
    plain("constant_nodes", nodes=[*(node("Constant", [], [each.name], value=each) for each in CONSTANTS), *net()],
          constants=())
    plain("custom_operator", nodes=[node("Answer", ["sample", "timestep"], ["out_sample"], domain="com.example")],
          constants=(), domains=["com.example"])
    sequence = helper.make_tensor_sequence_value_info("states", F32, None)
    plain("sequence_output", nodes=[*net(), node("SequenceConstruct", ["halved", "part"], ["states"])],
          more_outputs=[sequence])
    optional = helper.make_value_info("perhaps", helper.make_optional_type_proto(helper.make_tensor_type_proto(F32, SIZE)))
    plain("optional_output", nodes=[*net(), node("Optional", ["halved"], ["perhaps"])], more_outputs=[optional])
    plain("float_outputs", nodes=[*net(), node("Identity", ["sample"], ["skip"]), node("Identity", ["time_f32"], ["time"])],
          more_outputs=[value("skip", F32, SIZE), value("time", F32, ["N"])])
    plain("input_twice", sample=("sample", F32, SIZE), timestep=("sample", I64, ["N"]))
    plain("value_twice", nodes=[*net(), node("Mul", ["sample", "half"], ["out_sample"])])
    write("no_inputs", [node("ConstantOfShape", ["size"], ["out_sample"])], [], [value("out_sample", F32, [1, 3, 4, 4])],
          [const("size", [1, 3, 4, 4], np.int64)])
    plain("metadata_width", metadata=[("ddpm.width", "wide")])
    plain("metadata_other_width", metadata=[("ddpm.width", "8")])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    names()
    floats()
    shapes()
    graphs()
