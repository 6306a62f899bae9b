#!/usr/bin/env python3
"""One measurement of one peer, in a process of its own; compare.py starts it and reads the line of JSON it prints.

    python3 tools/peers/measure.py KIND '{"model": "resnet18", "batch": 32, "threads": 2, "steps": 10, ...}'

Weights and images are random and in memory before the clock starts. peak_bytes of training is the most resident memory
the process has had at the end (ru_maxrss) less what was resident before the first step: activations, gradients,
momentum and the library code that the steps touch first (some 20 MB), without the weights and images.
"""

import json
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

WARMUP = 3
CALIBRATION_BATCHES = 4


def step_times(step, steps):
    for _ in range(WARMUP):
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def random_images(o):
    import torch

    torch.set_num_threads(o["threads"])
    torch.manual_seed(1)
    return torch.randn(o["batch"], 3, o["image_size"], o["image_size"])


# Forward, cross-entropy, backward and an SGD step, in the order of PyTorch's tuning guide: gradients are set to None as
# soon as the step has used them, so that the forward pass has their memory. autocast: the dtype of convolutions and
# matrix products.
def train(o, prepare=lambda model, x: model, autocast=None, compiled=False):
    import models
    import other_models
    import torch

    x = random_images(o).to(memory_format=torch.channels_last)
    model = prepare(models.build(o["model"]).train(), x).to(memory_format=torch.channels_last).train()
    labels = torch.randint(models.classes(o["model"]), (o["batch"],))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            loss = other_models.loss(forward(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    before = resident_bytes()
    seconds = statistics.median(step_times(step, o["steps"]))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"images_per_s": o["batch"] / seconds, "peak_bytes": peak - before}


def train_fp32(o):
    return train(o)


def train_fp32_compiled(o):
    return train(o, compiled=True)


def train_bf16(o):
    import torch

    return train(o, autocast=torch.bfloat16)


def train_bf16_compiled(o):
    import torch

    return train(o, autocast=torch.bfloat16, compiled=True)


def train_qat(o):
    def prepare(model, x):
        import torch
        from torch.ao.quantization import get_default_qat_qconfig_mapping
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        torch.backends.quantized.engine = "x86"
        return prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))

    return train(o, prepare)


def infer_pytorch(o):
    import models
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "x86"
    x = random_images(o).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        model = models.build(o["model"]).eval().to(memory_format=torch.channels_last)
        model = prepare_fx(model, get_default_qconfig_mapping("x86"), (x,))
        model(x)
        model = convert_fx(model)
        return {"images_per_s": o["batch"] / statistics.median(step_times(lambda: model(x), o["steps"]))}


def write_qdq(o):
    """Exports the network and writes its static quantization, which both ONNX peers run, to o["onnx"]."""
    import models
    import torch
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    x = random_images(o)
    exported, prepared = o["onnx"] + ".exported", o["onnx"] + ".prepared"
    torch.onnx.export(models.build(o["model"]).eval(), (x,), exported, input_names=["images"], dynamo=False)
    quant_pre_process(exported, prepared, skip_symbolic_shape=True)

    class Reader(quantization.CalibrationDataReader):
        batches = iter([{"images": torch.randn_like(x).numpy()} for _ in range(CALIBRATION_BATCHES)])

        def get_next(self):
            return next(self.batches, None)

    quantization.quantize_static(
        prepared, o["onnx"], Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
    return {}


def infer_onnxruntime(o):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = o["threads"], 1
    session = onnxruntime.InferenceSession(o["onnx"], options, providers=["CPUExecutionProvider"])
    shape = (o["batch"], 3, o["image_size"], o["image_size"])
    x = numpy.random.default_rng(1).standard_normal(shape, numpy.float32)
    times = step_times(lambda: session.run(None, {"images": x}), o["steps"])
    return {"images_per_s": o["batch"] / statistics.median(times)}


# As many requests in flight as the hint asks for (LATENCY: one); the rate is that of the whole run.
def infer_openvino(o):
    import numpy
    import openvino

    core = openvino.Core()
    hint = "THROUGHPUT" if o["batch"] > 1 else "LATENCY"
    config = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": o["threads"]}
    queue = openvino.AsyncInferQueue(core.compile_model(core.read_model(o["onnx"]), "CPU", config))
    shape = (o["batch"], 3, o["image_size"], o["image_size"])
    x = numpy.random.default_rng(1).standard_normal(shape, numpy.float32)

    def run(steps):
        for _ in range(steps * len(queue)):
            queue.start_async({0: x}, share_inputs=True)
        queue.wait_all()

    run(WARMUP)
    start = time.perf_counter()
    run(o["steps"])
    return {"images_per_s": o["steps"] * len(queue) * o["batch"] / (time.perf_counter() - start)}


# The convolutions of the network as it was exported, by name: (input H, input channels, output channels, kernel, stride).
def convolutions(o):
    import openvino

    found = {}
    for op in openvino.Core().read_model(o["onnx"] + ".prepared").get_ordered_ops():
        if op.get_type_name() == "Convolution":
            (_, channels, height, _), (out, _, kernel, _) = (list(op.input(i).get_partial_shape().to_shape()) for i in (0, 1))
            name = op.get_friendly_name().removesuffix("/WithoutBiases")
            found[name] = [height, channels, out, kernel, op.get_attributes()["strides"][0]]
    return found


# [{"convolution": what, "ms": median}] in the order they run; what is none has null. `runs`: one {name: ms} per step.
def layer_times(o, runs):
    known = convolutions(o)
    rows = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        convolution = next((c for c in known if name.startswith((c + "/", c + "_")) or name == c), None)
        rows[name] = {"name": name, "convolution": known.get(convolution),
                      "ms": statistics.median(run.get(name, 0.0) for run in runs)}
    return {"layers": list(rows.values())}


def layers_onnxruntime(o):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = o["threads"], 1
    options.enable_profiling, options.profile_file_prefix = True, o["onnx"] + ".profile"
    session = onnxruntime.InferenceSession(o["onnx"], options, providers=["CPUExecutionProvider"])
    shape = (o["batch"], 3, o["image_size"], o["image_size"])
    x = numpy.random.default_rng(1).standard_normal(shape, numpy.float32)
    step_times(lambda: session.run(None, {"images": x}), o["steps"])
    runs, ends = [{}], "_kernel_time"
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(ends):
            name = event["name"].removesuffix(ends)
            if name in runs[-1]:
                runs.append({})
            runs[-1][name] = event["dur"] / 1e3
    return layer_times(o, runs[WARMUP:])


# One request at a time on all threads: with several in flight a layer's time would be that of its neighbours, too.
def layers_openvino(o):
    import numpy
    import openvino

    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": o["threads"], "PERF_COUNT": True}
    request = core.compile_model(core.read_model(o["onnx"]), "CPU", config).create_infer_request()
    shape = (o["batch"], 3, o["image_size"], o["image_size"])
    x = numpy.random.default_rng(1).standard_normal(shape, numpy.float32)
    runs = []

    def step():
        request.infer({0: x}, share_inputs=True)
        runs.append({p.node_name: p.real_time.total_seconds() * 1e3 for p in request.get_profiling_info()
                     if str(p.status).endswith("EXECUTED") and p.real_time.total_seconds() > 0})

    step_times(step, o["steps"])
    return layer_times(o, runs[WARMUP:])


def repeat_images(o):
    """Makes o["repeated"], the data set with long enough epochs."""
    import images

    return {"copies": images.repeat(o["data_path"], o["repeated"])}


def load_pillow(o):
    """Whole epochs through a DataLoader, the median of them; a first batch starts the workers."""
    import images
    from torch.utils.data import DataLoader

    data = images.Folder(o["repeated"], o["crop_size"])
    loader = DataLoader(data, o["batch"], shuffle=True, num_workers=o["workers"], persistent_workers=True)
    next(iter(loader))
    rates = []
    for _ in range(o["epochs"]):
        start = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        rates.append(count / (time.perf_counter() - start))
    return {"images_per_s": statistics.median(rates)}


KINDS = {f.__name__: f for f in (train_fp32, train_fp32_compiled, train_bf16, train_bf16_compiled, train_qat,
                                 infer_pytorch, write_qdq, infer_onnxruntime, infer_openvino, layers_onnxruntime,
                                 layers_openvino, repeat_images, load_pillow)}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")  # torch.ao.quantization and torch.onnx announce their successors at every call
    print(json.dumps(KINDS[sys.argv[1]](json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
