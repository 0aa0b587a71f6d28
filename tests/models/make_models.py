#!/usr/bin/env python3
"""Builds the ONNX models of the tests from scratch, next to this file.

Made with onnx 1.23.2 and numpy 2.4.6. Running it again gives the same bytes. Samples are [N, 3, 8, 8] and
the timestep is int64 [N] unless a model is about something else.

Exact answers: `oracle` returns the noise of a known clean image, `lin` half of the sample, `trec`
a thousandth of the timestep everywhere.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
OPSET = 17
IR = 8
F32, F16, F64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
I64, I32 = TensorProto.INT64, TensorProto.INT32
NUMBERS = {"i64": I64, "i32": I32, "f32": F32, "f16": F16, "f64": F64}
SHAPES = {"scalar": [], "one": [1], "n": ["N"]}
SAMPLE = ["N", 3, 8, 8]


def const(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def tensor(name, number, dims):
    return helper.make_tensor_value_info(name, number, dims)


def write(name, nodes, initializers=(), *, sample=SAMPLE, sample_number=F32, timestep=(I64, ["N"]), output=None,
          extra_inputs=(), extra_outputs=(), outputs_first=(), metadata=None, ir=IR, opset=OPSET):
    output = output or sample
    graph = helper.make_graph(
        nodes,
        name,
        [tensor("sample", sample_number, sample), tensor("timestep", *timestep), *extra_inputs],
        [*outputs_first, tensor("out_sample", sample_number, output), *extra_outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="ddpm-tests")
    model.ir_version = ir
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    data = model.SerializeToString(deterministic=True)
    (HERE / f"{name}.onnx").write_bytes(data)
    return model


node = helper.make_node


def lin_nodes(source="sample", target="out_sample"):
    return [node("Mul", [source, "half"], [target])]


HALF = const("half", 0.5)


def timestep_f32():
    """Nodes that give t as float32 [N or 1, 1, 1, 1] in `t4`."""
    return [
        node("Cast", ["timestep"], ["tf"], to=F32),
        node("Reshape", ["tf", "column"], ["t4"]),
    ]


COLUMN = const("column", [-1, 1, 1, 1], np.int64)


def trec_nodes():
    return timestep_f32() + [
        node("Div", ["t4", "thousand"], ["rec"]),
        node("Shape", ["sample"], ["shape"]),
        node("Expand", ["rec", "shape"], ["out_sample"]),
    ]


TREC = [COLUMN, const("thousand", 1000.0)]


def alphas_cumprod():
    return np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))


def clean_image(scale=1.0):
    """c of the oracle: channel k at (y, x) is scale (k + 1) / 4 times a ramp from -1 to 1."""
    y, x = np.mgrid[0:8, 0:8] / 3.5 - 1.0
    return scale * np.stack([x / 4, y / 2, (x + y) * 3 / 8])[None]


def oracle(name, scale=1.0, **options):
    a = alphas_cumprod()
    write(name, [
        node("Gather", ["signals", "timestep"], ["signal"]),
        node("Gather", ["noises", "timestep"], ["noise"]),
        node("Reshape", ["signal", "column"], ["signal4"]),
        node("Reshape", ["noise", "column"], ["noise4"]),
        node("Mul", ["signal4", "clean"], ["known"]),
        node("Sub", ["sample", "known"], ["rest"]),
        node("Div", ["rest", "noise4"], ["out_sample"]),
    ], [const("signals", np.sqrt(a)), const("noises", np.sqrt(1 - a)), COLUMN, const("clean", clean_image(scale))], **options)


def busy(name, iterations, sample=SAMPLE):
    """Half of the sample, after as many loop turns as the nodes `iterations` put into `turns`."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("MatMul", ["carried", "mix"], ["mixed"])],
        "body",
        [tensor("turn", I64, []), tensor("go", TensorProto.BOOL, []), tensor("carried", F32, [16, 16])],
        [tensor("go_on", TensorProto.BOOL, []), tensor("mixed", F32, [16, 16])],
    )
    write(name, [
        node("ReduceMax", ["timestep"], ["t"], keepdims=0),
        *iterations,
        node("Loop", ["turns", "", "mix"], ["last"], body=body),
        node("ReduceMin", ["last"], ["lowest"], keepdims=0),
        # The loop's result is used, so that no optimiser can leave it out, and adds nothing.
        node("Mul", ["lowest", "nothing"], ["zero"]),
        node("Mul", ["sample", "half"], ["halved"]),
        node("Add", ["halved", "zero"], ["out_sample"]),
    ], [HALF, const("mix", np.eye(16)), const("nothing", 0.0), const("per_t", TURNS[name], np.int64),
        const("last_t", 999, np.int64)], sample=sample)


# Loop turns for each unit of the timestep. A turn takes some microseconds.
TURNS = {"slow": 5, "slow_open": 5, "endless": 10_000_000, "endless_load": 10_000_000}


def overflow():
    write("overflow", timestep_f32() + [
        node("Less", ["t4", "limit"], ["low"]),
        node("Mul", ["sample", "half"], ["halved"]),
        node("Mul", ["halved", "huge"], ["large"]),
        node("Mul", ["large", "huge"], ["infinite"]),
        node("Where", ["low", "infinite", "halved"], ["out_sample"]),
    ], [COLUMN, HALF, const("limit", 500.0), const("huge", 3e38)])


def external():
    weight = const("half", np.full([1, 3, 8, 8], 0.5))
    model = write("external", lin_nodes(), [weight])
    (HERE / "external.onnx.data").unlink(missing_ok=True)
    onnx.save_model(model, HERE / "external.onnx", save_as_external_data=True, location="external.onnx.data", size_threshold=0)


def styles():
    """Weights to be replaced by others: the optimiser folds the scale into the convolution."""
    def nodes(source, target):
        return [node("Conv", [source, "conv.weight", "conv.bias"], ["convolved"]), node("Mul", ["convolved", "scale"], [target])]

    def weights(dtype):
        return [const("conv.weight", np.eye(3).reshape(3, 3, 1, 1) / 2, dtype), const("conv.bias", np.zeros(3), dtype),
                const("scale", np.ones([3, 1, 1]), dtype)]

    write("styles", nodes("sample", "out_sample"), weights(np.float32))
    write("styles_f16", [node("Cast", ["sample"], ["halves"], to=F16), *nodes("halves", "scaled"),
                         node("Cast", ["scaled"], ["out_sample"], to=F32)], weights(np.float16))


def classes():
    """Models of labels. The label looks up a scale, 1 for label 0, 2 for label 1, ..."""
    names = {"ddpm.classes": json.dumps(["cat", "dog", "owl"])}

    def scaled(source, label="class_labels"):
        return [
            node("Gather", ["scales", label], ["scale"]),
            node("Reshape", ["scale", "column"], ["scale4"]),
            node("Mul", [source, "scale4"], ["out_sample"]),
        ]

    def by_label(name, rows=4, *, label=("class_labels", I64, ["N"]), **options):
        table = const("scales", np.arange(1, rows + 1))
        write(name, scaled("sample", label[0]), [COLUMN, table], extra_inputs=[tensor(*label)], **options)

    # The fourth row is that of no class.
    by_label("class_labels", metadata=names)
    by_label("class_labels_no_null", 3, metadata=names)
    by_label("class_labels_unnamed")
    by_label("class_labels_i32", label=("y", I32, ["N"]), metadata=names)
    by_label("class_labels_one", label=("y", I64, [1]), metadata=names)
    by_label("class_labels_fixed", label=("y", I64, [2]), sample=[2, 3, 8, 8], timestep=(I64, [2]), metadata=names)
    # Two int64 [N] of which no name is known.
    unknown = [tensor("sample", F32, SAMPLE), tensor("a", I64, ["N"]), tensor("b", I64, ["N"])]
    graph = helper.make_graph(
        scaled("sample", "b"), "two_integers", unknown, [tensor("out_sample", F32, SAMPLE)],
        [COLUMN, const("scales", np.arange(1, 5))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ddpm-tests")
    model.ir_version = IR
    (HERE / "two_integers.onnx").write_bytes(model.SerializeToString(deterministic=True))
    # At t = 500 half the scale everywhere.
    trec = [*trec_nodes()[:-1], node("Expand", ["rec", "shape"], ["halves"])]
    for name, golden in (
        ("class_labels_golden", {"seed": 7, "timestep": 500, "label": 1, "mean_square": 1.0}),
        ("class_labels_golden_0", {"seed": 7, "timestep": 500, "mean_square": 0.25}),
    ):
        write(name, trec + scaled("halves"), [*TREC, const("scales", np.arange(1, 5))],
              extra_inputs=[tensor("class_labels", I64, ["N"])], metadata={**names, "ddpm.golden": json.dumps(golden)})


def main():
    oracle("oracle")
    oracle("oracle_wide", 4.0)
    write("lin", lin_nodes(), [HALF])
    for number_name, number in NUMBERS.items():
        for shape_name, shape in SHAPES.items():
            write(f"trec_{number_name}_{shape_name}", trec_nodes(), TREC, timestep=(number, shape))
    half = const("half", 0.5, np.float16)
    write("lin_f16", lin_nodes(), [half], sample_number=F16)

    write("fixed_batch_1", lin_nodes(), [HALF], sample=[1, 3, 8, 8], timestep=(I64, [1]))
    write("fixed_batch_2", lin_nodes(), [HALF], sample=[2, 3, 8, 8], timestep=(I64, [2]))
    write("open_size", lin_nodes(), [HALF], sample=["N", 3, "H", "W"])
    write("open_size_named", lin_nodes(), [HALF], sample=["N", 3, "H", "W"],
          metadata={"ddpm.width": "24", "ddpm.height": "16"})
    # Shape inference cannot see through Compress, so only a run shows that the width must be 8.
    write("needs_width_8", [
        node("ReduceMax", ["timestep"], ["t"], keepdims=0),
        node("Expand", ["t", "eight"], ["ts"]),
        node("GreaterOrEqual", ["ts", "zero"], ["kept"]),
        node("Compress", ["eye", "kept"], ["weight"], axis=1),
        node("MatMul", ["sample", "weight"], ["out_sample"]),
    ], [const("eye", np.eye(8)), const("eight", [8], np.int64), const("zero", 0, np.int64)], sample=["N", 3, "H", "W"])

    one_channel = [node("ReduceMean", ["sample"], ["out_sample"], axes=[1], keepdims=1)]
    write("wrong_channels", one_channel, output=["N", 1, 8, 8])
    write("two_channels", lin_nodes(), [HALF], sample=["N", 2, 8, 8])
    twice = [node("Concat", ["sample", "sample"], ["out_sample"], axis=1)]
    write("learned_range", twice, output=["N", 6, 8, 8])
    write("gray_variance", twice, sample=["N", 1, 8, 8], output=["N", 2, 8, 8])
    # Shape inference cannot see through Compress, so the channels stay open.
    write("open_variance", [
        node("Concat", ["sample", "sample"], ["twice"], axis=1),
        node("ReduceMax", ["timestep"], ["t"], keepdims=0),
        node("Expand", ["t", "six"], ["ts"]),
        node("GreaterOrEqual", ["ts", "zero"], ["kept"]),
        node("Compress", ["twice", "kept"], ["out_sample"], axis=1),
    ], [const("six", [6], np.int64), const("zero", 0, np.int64)], output=["N", "channels", 8, 8],
          metadata={"ddpm.variance_type": "learned"})
    write("unused_variance", twice, output=["N", 6, 8, 8], metadata={"ddpm.variance_type": "fixed_large"})
    write("missing_variance", lin_nodes(), [HALF], metadata={"ddpm.variance_type": "learned_range"})
    write("gray", lin_nodes(), [HALF], sample=["N", 1, 8, 8])
    write("rgba", lin_nodes(), [HALF], sample=["N", 4, 8, 8])

    context = tensor("context", F32, ["N", 77, 32])
    write("extra_input", [
        node("ReduceMean", ["context"], ["mean"], keepdims=0),
        node("Mul", ["sample", "mean"], ["out_sample"]),
    ], extra_inputs=[context])
    classes()
    write("version_2", lin_nodes(), [HALF], metadata={"ddpm.version": "2"})
    for ir in (3, 8):
        write(f"initializers_as_inputs_ir{ir}", lin_nodes(), [HALF], extra_inputs=[tensor("half", F32, [])], ir=ir)
    mean = node("ReduceMean", ["sample"], ["aux"], axes=[1, 2, 3], keepdims=0)
    write("aux_output", [mean, *lin_nodes()], [HALF], outputs_first=[tensor("aux", F32, ["N"])])
    graph_outputs = [tensor("first", F32, SAMPLE), tensor("second", F32, SAMPLE)]
    model = helper.make_model(helper.make_graph(
        [node("Mul", ["sample", "half"], ["first"]), node("Identity", ["sample"], ["second"])], "two_outputs",
        [tensor("sample", F32, SAMPLE), tensor("timestep", I64, ["N"])], graph_outputs, [HALF]),
        opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ddpm-tests")
    model.ir_version = IR
    (HERE / "two_outputs.onnx").write_bytes(model.SerializeToString(deterministic=True))

    write("ir_version_99", lin_nodes(), [HALF], ir=99)
    write("opset_99", lin_nodes(), [HALF], opset=99)
    write("junk_prediction_type", lin_nodes(), [HALF], metadata={"ddpm.prediction_type": "junk"})
    write("v_prediction", lin_nodes(), [HALF], metadata={
        "ddpm.version": "1", "ddpm.prediction_type": "v_prediction", "ddpm.beta_schedule": "squaredcos_cap_v2",
        "ddpm.num_train_timesteps": "500", "ddpm.clip_sample_range": "none", "ddpm.color": "rgb"})
    # At t = 500 the output is 0.5 everywhere, so its mean square is 0.25 whatever the seed.
    for name, mean_square in (("golden", 0.25), ("golden_wrong", 0.26)):
        golden = json.dumps({"seed": 7, "timestep": 500, "mean_square": mean_square})
        write(name, trec_nodes(), TREC, metadata={"ddpm.golden": golden})

    styles()
    overflow()
    busy("slow", [node("Mul", ["t", "per_t"], ["turns"])])
    busy("slow_open", [node("Mul", ["t", "per_t"], ["turns"])], sample=["N", 3, "H", "W"])
    busy("endless", [node("Mul", ["t", "per_t"], ["turns"])])
    busy("endless_load", [node("Sub", ["last_t", "t"], ["rest"]), node("Mul", ["rest", "per_t"], ["turns"])])
    external()


if __name__ == "__main__":
    main()
