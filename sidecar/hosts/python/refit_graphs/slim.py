"""Rewrites of a traced ONNX model that change no result: the variant's float type, folding of constants, dead nodes, short names.

In: the f64 trace. Out: a new model. Graph inputs and outputs keep their names; parameters are inputs, so no fold can touch them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FOLDABLE = {
    "Add",
    "Cast",
    "Concat",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Gather",
    "Mul",
    "Neg",
    "Range",
    "Reshape",
    "Shape",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Unsqueeze",
    "Where",
}


def variant(traced: onnx.ModelProto, float_type: int) -> onnx.ModelProto:
    """The graph of one variant (`float_type`: TensorProto.FLOAT, FLOAT16 or BFLOAT16): every f64 of the trace becomes that type."""
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    graph = model.graph
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = float_type
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = float_type
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.DOUBLE:
                attribute.t.CopyFrom(
                    numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(helper.tensor_dtype_to_np_dtype(float_type)))
                )
    del graph.value_info[:]
    _fold(graph)
    _drop_same_type_casts(graph)
    _drop_unused(graph)
    _shorten(graph)
    model.producer_name, model.producer_version = "refit-sidecar", ""
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def _fold(graph: onnx.GraphProto) -> None:
    """Computes nodes that depend on constants only, keeps one copy of each constant, and drops divisions by one."""
    known: dict[str, np.ndarray] = {}  # Value of each constant still in the graph.
    merged: dict[tuple, str] = {}
    alias: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        if node.op_type == "Constant":
            value = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type in FOLDABLE and all(name in known for name in node.input):
            model = helper.make_model(helper.make_graph([node], "fold", [], []), opset_imports=[helper.make_opsetid("", 18)])
            model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in node.output)
            for name in node.input:
                model.graph.input.append(helper.make_empty_tensor_value_info(name))
            value = np.asarray(ReferenceEvaluator(model).run(None, {name: known[name] for name in node.input})[0])  # pyright: ignore[reportArgumentType]  run gives a list
        elif node.op_type == "Div" and node.input[1] in known and (known[node.input[1]] == 1).all() and known[node.input[1]].ndim == 0:
            alias[node.output[0]] = node.input[0]
            continue
        else:
            kept.append(node)
            continue
        key = (value.dtype.str, value.shape, value.tobytes())
        if key in merged:
            alias[node.output[0]] = merged[key]
            continue
        merged[key] = node.output[0]
        known[node.output[0]] = value
        kept.append(helper.make_node("Constant", [], [node.output[0]], value=numpy_helper.from_array(value)))
    _replace_nodes(graph, kept)


def _drop_same_type_casts(graph: onnx.GraphProto) -> None:
    """Removes casts to the type that the value already has, where that is plain to see: a cast of a cast, or of an input."""
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    alias: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        if node.op_type == "Cast":
            target = node.attribute[0].i
            if types.get(node.input[0]) == target:
                alias[node.output[0]] = node.input[0]
                continue
            types[node.output[0]] = target
        elif node.op_type == "Shape":
            types[node.output[0]] = TensorProto.INT64
        elif (
            node.op_type in ("Gather", "Div", "Mul", "Add", "Sub", "Unsqueeze", "Concat", "Slice", "Transpose", "Reshape", "MatMul")
            and node.input[0] in types
        ):
            types[node.output[0]] = types[node.input[0]]
        kept.append(node)
    _replace_nodes(graph, kept)


def _drop_unused(graph: onnx.GraphProto) -> None:
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    _replace_nodes(graph, kept[::-1])


def _shorten(graph: onnx.GraphProto) -> None:
    """Gives inner values numbers for names. Node names stay: profilers and TensorRT show them."""
    fixed = {value.name for value in [*graph.input, *graph.output]}
    short: dict[str, str] = {}
    for node in graph.node:
        node.doc_string = ""
        if node.op_type == "Constant":
            node.name = ""
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name and name not in fixed:
                    names[i] = short.setdefault(name, f"_{len(short)}")


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
