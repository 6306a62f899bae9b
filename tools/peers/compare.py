#!/usr/bin/env python3
"""Runs the same work in faq and in its peers, alternating, and prints the rates and their ratios.

    python3 tools/peers/compare.py --faq-bench build/faq-bench --mode train --model resnet18 --batch 32 --threads 2
    python3 tools/peers/compare.py --faq-bench build/faq-bench --mode infer --model resnet50 --bits 8 --json
    python3 tools/peers/compare.py --faq-bench build/faq-bench --mode load --data-path DIR --workers 2
    python3 tools/peers/compare.py --self-test

train  a step on one batch in memory, against PyTorch in fp32, in bf16 (torch.autocast), each also through torch.compile,
       and in FX quantization-aware training (x86 qconfig), all channels-last; with --data-path DIR also an epoch of
       faq-train there, its loader, augmentation and metrics included. --grad-dtype is ours
infer  a batch in memory, against int8 PyTorch (FX post-training, x86), ONNX Runtime (static QDQ, u8 activations, s8
       weights per channel) and OpenVINO (the same QDQ file, THROUGHPUT hint; with a batch of one image LATENCY)
load   DIR/train decoded, RandomResizedCrop and flipped, against Pillow in the workers of a DataLoader; images/s are
       per core. Small data sets are repeated by links until an epoch is long enough for its start not to count (with
       Pillow, which reads their sizes; without it ours loads them as they are).

Peers run as PyTorch's tuning guide for CPUs has it: gradients are set to None behind the step, every process is pinned to
as many CPUs as it has threads, one thread each (ours too), and memory that is freed stays with the process instead of
going back to the system, whose page faults would cost up to a third of a step: with --allocator glibc by
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, with jemalloc or tcmalloc by preloading them; default leaves it as it
is. What was set stands in the result. (Ours has its own allocator.)

Other work makes our ratios look better than they are: above a load of 0.3 on the machine it waits for a minute, then
refuses, unless --busy says that the figures are not to be trusted.

In every round each variant runs once, in a process of its own and alone; the medians over the rounds count. A ratio is
ours / peer: above 1, ours is faster. Weights and images are random; faq-train's images are those of --data-path.

Peak memory, in training only: ours is what tensors have taken from the system after the steps (faq-train: at the end of
the run), weights and images among them. PyTorch's is how much the resident memory of its fresh process grows over the steps (ru_maxrss less
the resident memory before the first step): what the process held before, weights and images among it, is not counted;
library code that the steps touch first, some 20 MB, is.

Needs Python >= 3.11 and torch; onnx, onnxruntime, openvino and Pillow for the peers that use them. A peer that is not
installed or fails is reported as skipped.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata, util
from pathlib import Path

HERE = Path(__file__).resolve().parent
ONNX = ("torch", "onnx", "onnxruntime")

# Mode: its peers, each with the function of measure.py that measures it and the modules that it needs.
PEERS = {
    "train": [("pytorch-fp32", "train_fp32", ("torch",)), ("pytorch-fp32-compiled", "train_fp32_compiled", ("torch",)),
              ("pytorch-bf16", "train_bf16", ("torch",)), ("pytorch-bf16-compiled", "train_bf16_compiled", ("torch",)),
              ("pytorch-qat", "train_qat", ("torch",))],
    "infer": [("pytorch-int8", "infer_pytorch", ("torch",)), ("onnxruntime-int8", "infer_onnxruntime", ONNX),
              ("openvino-int8", "infer_openvino", (*ONNX, "openvino"))],
    "load": [("pillow", "load_pillow", ("torch", "numpy", "PIL"))],
}
PREPARATION = {"infer_onnxruntime": "write_qdq", "infer_openvino": "write_qdq", "load_pillow": "repeat_images"}
IMAGE_SIZES = {"resnet20": 32, "resnet18": 224, "resnet34": 224, "resnet50": 224, "resnet101": 224, "resnet152": 224,
               "alexnet": 224, "vgg16_bn": 224, "densenet121": 224, "densenet161": 224, "inception_v3": 299,
               "efficientnet_lite0": 224}
CPU_FLAGS = ("avx512_vnni", "avx512_bf16")
IDLE_LOAD = 0.3  # over the last minute, with which nothing else is running
KEPT_BYTES = str(1 << 32)  # glibc: freed blocks below this size stay with the process, and as much at the end of its heap
ALLOCATORS = {"default": None, "glibc": None, "jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}


class Failed(Exception):
    """A measurement that did not end well."""


def log(text):
    print(text, file=sys.stderr, flush=True)


def library_path(name):
    """Of a shared library that the linker knows; None if it knows none."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    return next((line.split(" => ")[1] for line in listed.splitlines() if line.split()[:1] == [name]), None)


def allocator_settings(name):
    """What the environment of a peer must say."""
    if name == "glibc":
        return {"MALLOC_MMAP_THRESHOLD_": KEPT_BYTES, "MALLOC_TRIM_THRESHOLD_": KEPT_BYTES}
    if ALLOCATORS[name] is None:
        return {}
    if (path := library_path(ALLOCATORS[name])) is None:
        raise Failed(f"--allocator {name}: no {ALLOCATORS[name]}")
    return {"LD_PRELOAD": path}


def pinned_cpus(threads):
    """The CPUs of a measured process: as many as it has threads, of those that this one may use."""
    return sorted(os.sched_getaffinity(0))[:threads]


# Runs a program that prints one JSON object. A child starts with the ru_maxrss of its parent: no torch in this one.
def run(command, threads, settings=None):
    cpus = pinned_cpus(threads)
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_PROC_BIND="true", OMP_PLACES="threads",
                       KMP_AFFINITY="granularity=fine,compact,1,0", **(settings or {}))
    done = subprocess.run(command, capture_output=True, text=True, env=environment,
                          preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Failed(f"{lines[-1]} (exit status {done.returncode})")
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind, work):
    # Workers of a loader are threads and processes of their own: not pinned to as many CPUs as a kernel has threads.
    cpus = max(work["threads"], work.get("workers") or 1)
    return run([sys.executable, str(HERE / "measure.py"), kind, json.dumps(work)], cpus if kind == "load_pillow"
               else work["threads"], work.get("settings"))


def wait_until_idle(is_busy, loads=lambda: os.getloadavg()[0], wait=time.sleep):
    """The load at the end; raises Failed when other work does not end within a minute, unless that is known."""
    for _ in range(12):
        if (load := loads()) <= IDLE_LOAD:
            return load
        if is_busy:
            log(f"the machine is busy (load {load:.1f}): ratios look better than they are")
            return load
        wait(5)
    raise Failed(f"the machine is busy: load {load:.1f}, expected at most {IDLE_LOAD}; --busy measures all the same")


def faq_command(o, work, bits):
    command = [o.faq_bench, "--json", "--mode", o.mode, "-b", o.batch, "--steps", o.steps]
    if o.mode == "load":
        command += ["--data-path", work["repeated"], "--augment", "imagenet", "--train-crop-size", o.crop_size,
                    "--workers", o.workers]
    else:
        command += ["--model", o.model, "--bits", bits, "--threads", o.threads, "--image-size", o.image_size]
        command += dtypes_for(o, bits)
    return [str(word) for word in command]


def dtypes_for(o, bits):
    """A network in floating point has no gradients in integers, and only it has layers in floating point."""
    dtypes = []
    if o.grad_dtype and (bits < 32 or o.grad_dtype in ("f32", "bf16")):
        dtypes += ["--grad-dtype", o.grad_dtype]
    if o.float_dtype and bits == 32:
        dtypes += ["--float-dtype", o.float_dtype]
    return dtypes


def faq_train(o):
    return Path(o.faq_bench).with_name("faq-train")


def faq_train_command(o, folder, bits):
    recipe = ["--preset", "faq-4bit", "--bits", bits] if bits < 32 else ["--preset", "fp32"]
    recipe += dtypes_for(o, bits)
    command = [faq_train(o), "--json", "--quiet", "--model", o.model, *recipe, "--epochs", 1,
               "-b", o.batch, "--threads", o.threads, "--workers", o.workers, "--data-path", o.data_path,
               "--train-crop-size", o.image_size, "--val-crop-size", o.image_size, "--output-dir", f"{folder}/run"]
    return [str(word) for word in command]


# In a folder of its own, which a second run would refuse.
def train_once(o, bits):
    with tempfile.TemporaryDirectory(prefix="faq-compare-") as folder:
        return run(faq_train_command(o, folder, bits), o.threads)


def missing_modules(modules):
    return [m for m in modules if util.find_spec(m) is None]


def chosen_peers(o):
    """The peers that can run, and why the others cannot."""
    peers, skipped = [], {}
    for name, kind, modules in PEERS[o.mode]:
        if o.peers and name not in o.peers:
            continue
        if missing := missing_modules(modules):
            skipped[name] = "not installed: " + ", ".join(missing)
        else:
            peers.append((name, kind))
    return peers, skipped


def variants(o, work, peers):
    """{name: function that measures it once}, the peers first."""
    table = {name: lambda kind=kind: measure(kind, work) for name, kind in peers}
    for bits in o.bits if o.mode != "load" else [None]:
        command = faq_command(o, work, bits)
        table["faq" if bits is None else f"faq-{bits}bit"] = lambda command=command: run(command, o.threads)
    for bits in o.bits if o.mode == "train" and o.data_path else []:
        table[f"faq-train-{bits}bit"] = lambda bits=bits: train_once(o, bits)
    return table


def is_ours(name):
    return name.startswith("faq")


def run_rounds(table, rounds, skipped):
    """{name: its results, one per round}. A peer that fails is noted in skipped and left out; faq may not fail."""
    results = {name: [] for name in table}
    for number in range(1, rounds + 1):
        for name in [n for n in table if n not in skipped]:
            try:
                result = table[name]()
            except Failed as error:
                if is_ours(name):
                    raise Failed(f"{name}: {error}") from error
                skipped[name] = str(error)
                log(f"round {number}/{rounds}  {name}: {error}")
                continue
            results[name].append(result)
            log(f"round {number}/{rounds}  {name}: {result['images_per_s']:.1f} images/s")
    return {name: r for name, r in results.items() if name not in skipped}


def summary(results, cores=1, memory=False):
    """One row per variant, its rates divided by `cores`."""
    rows = []
    for name, runs in results.items():
        rates = [r["images_per_s"] / cores for r in runs]
        row = {"name": name, "images_per_s": statistics.median(rates), "rounds": rates}
        if memory:
            row["peak_bytes"] = statistics.median(r["peak_bytes"] for r in runs)
        rows.append(row)
    ours = [r for r in rows if is_ours(r["name"])]
    for row in rows:
        if not is_ours(row["name"]):
            row["ratio"] = {r["name"]: r["images_per_s"] / row["images_per_s"] for r in ours}
    return rows


def versions(o):
    found = {}
    for package in ("torch", "onnxruntime", "openvino", "pillow"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    bench = subprocess.run([o.faq_bench, "--version"], capture_output=True, text=True)
    found["faq"] = bench.stdout.strip().removeprefix("faq ").partition(" (")[0]
    return found


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    return {"name": fields.get("model name", platform.machine()), "cores": len(os.sched_getaffinity(0)),
            **{flag: flag in flags for flag in CPU_FLAGS}}


def text(report):
    yield ", ".join(f"{k} {v or 'not installed'}" for k, v in report["versions"].items())
    c = report["cpu"]
    yield f"{c['name']}, {c['cores']} cores, " + ", ".join(f"{f} {'yes' if c[f] else 'no'}" for f in CPU_FLAGS)
    yield report["work"]
    settings = ", ".join(f"{key}={value}" for key, value in report["peer_settings"].items()) or "as it is"
    yield f"peers: allocator {report['allocator']} ({settings}); CPUs {report['cpus']}; load before {report['load']:.2f}"
    if report["grad_dtype"]:
        yield f"ours: gradients in {report['grad_dtype']}"
    if report["float_dtype"]:
        yield f"ours: layers in floating point multiply {report['float_dtype']}"
    yield ""
    ours = [row["name"] for row in report["variants"] if is_ours(row["name"])]
    unit = "images/s/core" if report["mode"] == "load" else "images/s"
    peak = f"{'peak MB':>10}" if report["mode"] == "train" else ""
    yield f"{'':24}{unit:>14}{'min':>10}{'max':>10}{peak}" + "".join(f"{name + ' / it':>21}" for name in ours)
    for row in report["variants"]:
        rates = row["rounds"]
        peak = f"{row['peak_bytes'] / 1e6:10.0f}" if "peak_bytes" in row else ""
        line = f"{row['name']:24}{row['images_per_s']:14.1f}{min(rates):10.1f}{max(rates):10.1f}{peak}"
        yield line + "".join(f"{ratio:21.2f}" for ratio in row.get("ratio", {}).values())
    for name, reason in report["skipped"].items():
        yield f"{name:24}skipped: {reason}"


def describe(o, copies):
    if o.mode == "load":
        repeated = f", each image {copies} times" if copies > 1 else ""
        return f"load, batch {o.batch}, {o.workers} workers, crop {o.crop_size}{repeated}, median of {o.rounds} rounds"
    trained = f"an epoch of {o.data_path} with {o.workers} workers, " if o.data_path else ""
    return (f"{o.mode} {o.model}, batch {o.batch}, images {o.image_size} x {o.image_size}, {o.threads} threads, "
            f"{o.steps} steps, {trained}median of {o.rounds} rounds")


def compare(o, folder):
    load = wait_until_idle(o.busy)
    work = {"model": o.model, "batch": o.batch, "threads": o.threads, "steps": o.steps, "image_size": o.image_size,
            "settings": allocator_settings(o.allocator),
            "onnx": f"{folder}/qdq.onnx", "data_path": o.data_path, "repeated": f"{folder}/data",
            "crop_size": o.crop_size, "workers": o.workers, "epochs": max(3, o.steps // 10)}  # as faq-bench counts them
    peers, skipped = chosen_peers(o)
    copies = 0
    for kind in sorted({PREPARATION[k] for _, k in peers if k in PREPARATION}):
        log(f"preparing: {kind}")
        try:
            copies = measure(kind, work).get("copies", 0)
        except Failed as error:
            log(f"{kind}: {error}")
            skipped.update((name, f"{kind}: {error}") for name, k in peers if PREPARATION.get(k) == kind)
    peers = [(name, kind) for name, kind in peers if name not in skipped]
    if not copies:
        work["repeated"] = o.data_path
    results = run_rounds(variants(o, work, peers), o.rounds, skipped)
    machine = cpu()
    cores = min(max(o.workers, 1), machine["cores"]) if o.mode == "load" else 1
    return {"mode": o.mode, "work": describe(o, copies), "model": o.model if o.mode != "load" else None,
            "batch": o.batch, "threads": o.threads,
            "workers": o.workers if o.data_path else None,
            "image_size": o.image_size if o.mode != "load" else o.crop_size, "steps": o.steps, "rounds": o.rounds,
            "allocator": o.allocator, "peer_settings": work["settings"], "cpus": pinned_cpus(o.threads), "load": load,
            "grad_dtype": o.grad_dtype, "float_dtype": o.float_dtype, "versions": versions(o), "cpu": machine, "variants": summary(results, cores, o.mode == "train"),
            "skipped": skipped}


def self_test():
    for name, modules in (("models", ("torch",)), ("images", ("numpy", "PIL"))):
        if missing := missing_modules(modules):
            log(f"self-test: skipped {name}.py: not installed: " + ", ".join(missing))
        else:
            importlib.import_module(name).self_test()
    if not missing_modules(("torch",)):
        import models

        assert IMAGE_SIZES == {name: models.input_size(name) for name in models.MODELS}
    fail = iter([False, True])

    def flaky():
        if next(fail):
            raise Failed("out of memory")
        return {"images_per_s": 1.0}

    table = {"a": lambda: {"images_per_s": 2.0, "peak_bytes": 5}, "b": flaky,
             "faq-4bit": lambda: {"images_per_s": 3.0, "peak_bytes": 7}}
    skipped = {}
    a, ours = summary(run_rounds(table, 3, skipped), memory=True)
    assert a == {"name": "a", "images_per_s": 2.0, "rounds": [2.0] * 3, "peak_bytes": 5, "ratio": {"faq-4bit": 1.5}}
    assert ours["rounds"] == [3.0] * 3 and skipped == {"b": "out of memory"}
    loads = iter([2.0, 0.5, 0.1])
    assert wait_until_idle(False, lambda: next(loads), lambda seconds: None) == 0.1
    assert wait_until_idle(True, lambda: 5.0) == 5.0
    try:
        wait_until_idle(False, lambda: 5.0, lambda seconds: None)
        raise AssertionError("a busy machine was measured")
    except Failed as error:
        assert "load 5.0" in str(error)
    assert allocator_settings("default") == {} and "MALLOC_MMAP_THRESHOLD_" in allocator_settings("glibc")


def bit_widths(value):
    widths = [int(word) for word in value.split(",")]
    if any(not (2 <= width <= 8 or width == 32) for width in widths):
        raise argparse.ArgumentTypeError(f"expected 2 to 8 or 32, comma-separated, got {value}")
    return widths


def parse():
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faq-bench", default="build/faq-bench", metavar="FILE")
    parser.add_argument("--mode", choices=list(PEERS), default="train")
    parser.add_argument("--model", choices=list(IMAGE_SIZES), default="resnet18")
    parser.add_argument("--bits", type=bit_widths, default=[4, 8], metavar="B,B", help="2 to 8 or 32; default: 4,8")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=cores, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="timed steps per round and variant (load: 10 per epoch, "
                        "at least 3 epochs); default: 10")
    parser.add_argument("--image-size", type=int, help="default: what the network was designed for")
    parser.add_argument("--peers", type=lambda v: v.split(","), metavar="NAME,NAME", help="default: all of the mode")
    parser.add_argument("--data-path", metavar="DIR", help="load, and train with faq-train: folder with "
                        "train/ and val/, classes as folders")
    parser.add_argument("--crop-size", type=int, default=224, help="load: side of the images; default: 224")
    parser.add_argument("--workers", type=int, help="of a loader; default: all cores, with faq-train 1")
    parser.add_argument("--allocator", choices=list(ALLOCATORS), default="glibc", help="of the peers; default: glibc, told "
                        "to keep what is freed")
    parser.add_argument("--grad-dtype", help="train: --grad-dtype of faq-bench and faq-train; default: theirs")
    parser.add_argument("--float-dtype", choices=("f32", "bf16"), help="train, --bits 32: the same, --float-dtype")
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--self-test", action="store_true", help="checks this program and its networks")
    o = parser.parse_args()
    o.image_size = o.image_size or IMAGE_SIZES[o.model]
    if o.workers is None:
        o.workers = cores if o.mode == "load" else 1
    names = [name for name, _, _ in PEERS[o.mode]]
    if unknown := set(o.peers or []) - set(names):
        parser.error(f"--peers: expected some of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    smallest_batch = 2 if o.mode == "train" else 1
    for option, least in (("batch", smallest_batch), ("threads", 1), ("rounds", 1), ("steps", 2), ("workers", 1)):
        if getattr(o, option) < least:
            parser.error(f"--{option}: expected at least {least}, got {getattr(o, option)}")
    if o.mode == "load" and not o.data_path:
        parser.error("--mode load wants a --data-path")
    for option in ("grad-dtype", "float-dtype"):
        if o.mode != "train" and getattr(o, option.replace("-", "_")):
            parser.error(f"--mode {o.mode} has no use for a --{option}")
    if o.float_dtype and 32 not in o.bits:
        parser.error("--float-dtype has no use without --bits 32")
    if o.mode == "infer" and o.data_path:
        parser.error("--mode infer has no use for a --data-path")
    if not o.self_test and not os.access(o.faq_bench, os.X_OK):
        parser.error(f"--faq-bench {o.faq_bench}: not a program")
    if o.mode == "train" and o.data_path and not os.access(faq_train(o), os.X_OK):
        parser.error(f"--data-path: no program {faq_train(o)}")
    return o


def main():
    o = parse()
    if o.self_test:
        return self_test()
    try:
        with tempfile.TemporaryDirectory(prefix="faq-compare-") as folder:
            report = compare(o, folder)
    except Failed as error:
        sys.exit(f"compare: {error}")
    print(json.dumps(report) if o.json else "\n".join(text(report)))


if __name__ == "__main__":
    main()
