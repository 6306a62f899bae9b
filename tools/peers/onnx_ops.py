"""The ops of an exported network, each alone, on the integers that ours had read: for onnx_runtimes.py."""
import json

import numpy as np
import onnx

NARROW = {onnx.TensorProto.UINT4, onnx.TensorProto.INT4}


class Graph:
    """The parts of an exported model."""

    def __init__(self, model):
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def type_of(self, name):
        """Of a quantized value: that of its zero."""
        return self.tensors[name + "/zero"].data_type

    def scale_of(self, name):
        return onnx.numpy_helper.to_array(self.tensors[self.nodes[name].input[1]])

    def op(self, name, inputs, values):
        """A model that computes one op from its quantized inputs. Those of 4 bits, and such a result, are real numbers outside."""
        fed = {self.fed(given): given for given in inputs}

        def info(part, kind, value):
            return onnx.helper.make_tensor_value_info(part, kind, ["N", *values[value].shape[1:]])

        wanted, nodes, tensors = [name], [], []
        seen = set()
        narrow = self.type_of(name) in NARROW
        while wanted:
            part = wanted.pop()
            if part in fed or part in seen:
                continue
            seen.add(part)
            if part + "/fed" in fed:
                nodes.append(onnx.helper.make_node("QuantizeLinear", [part + "/fed", part + "/scale", part + "/zero"], [part], part))
                wanted += nodes[-1].input[1:]
            elif part in self.nodes:
                nodes.append(self.nodes[part])
                wanted += self.nodes[part].input
            else:
                tensors.append(self.tensors[part])
        order = {node.name: i for i, node in enumerate(self.model.graph.node)}
        nodes.sort(key=lambda node: order[node.name])
        if narrow:
            nodes.append(onnx.helper.make_node("DequantizeLinear", [name, self.nodes[name].input[1], name + "/zero"], ["seen"]))
        given = [info(part, onnx.TensorProto.FLOAT if part != source else self.type_of(source), source) for part, source in fed.items()]
        output = info("seen" if narrow else name, onnx.TensorProto.FLOAT if narrow else self.type_of(name), name)
        graph = onnx.helper.make_graph(nodes, "op", given, [output], tensors)
        return onnx.helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)

    def fed(self, name):
        return name + "/fed" if self.type_of(name) in NARROW else name


def reals(graph, name, integers):
    scale = graph.scale_of(name)
    real = graph.nodes.get(name + "/real")
    if real is not None:
        scale = onnx.numpy_helper.to_array(graph.tensors[real.input[1]])
    return integers.astype(np.float32) * scale


def differing_integers(runtime, graph, network, ours):
    """(integers of all ops, those that differ, the most steps, [(op, share, steps)]) of our values of a network, a file.
    Sees every fourth image: one has a hundred thousand integers or more."""
    values = {name: value[::4] for name, _, value in ours}
    document = json.loads(metadata_of(network)["network"])
    of_op, total, differing, most, rows = {i + 1: op["name"] for i, op in enumerate(document["ops"])}, 0, 0, 0, []
    for op in document["ops"]:
        if op["kind"] in ("input", "linear", "global_avg_pool"):
            continue
        inputs = [of_op[i] for i in op["inputs"]]
        model = runtime(graph.op(op["name"], inputs, values))
        feeds = {graph.fed(name): np.ascontiguousarray(
            reals(graph, name, values[name]) if graph.fed(name) != name else values[name]) for name in inputs}
        found = model(feeds)
        if graph.type_of(op["name"]) in NARROW:
            found = np.rint(found / graph.scale_of(op["name"]))
        steps = np.abs(found.astype(np.int64) - values[op["name"]].astype(np.int64))
        total, differing, most = total + steps.size, differing + np.count_nonzero(steps), max(most, steps.max())
        if steps.any():
            rows.append(("%s %s" % (op["kind"], op["name"]), np.count_nonzero(steps) / steps.size, steps.max()))
    return total, differing, most, rows


def metadata_of(file):
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length))["__metadata__"]
