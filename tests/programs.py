"""The programs that Python tests run, and small networks made with them."""
import os
import subprocess
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(PROJECT, "tools"))
ENVIRONMENT = {**os.environ, "LC_ALL": "C", "OMP_WAIT_POLICY": "passive"}

SCHEMES = {
    "8 bits": ["--scheme", "faq", "--bits", "8"],
    "4 bits": ["--scheme", "faq", "--bits", "4"],
    "3 and 5 bits": ["--scheme", "faq", "--weight-bits", "3", "--act-bits", "5"],
    "ternary clusters": ["--scheme", "dfp", "--weight-bits", "2"],
    "clusters of 4 bits": ["--scheme", "dfp", "--weight-bits", "4"],
    "DoReFa, 2 bits": ["--scheme", "dorefa", "--bits", "2"],
    "DoReFa, 4 bits": ["--scheme", "dorefa", "--bits", "4"],
    "LSQ, scales of channels": ["--scheme", "lsq", "--bits", "4", "--weight-scales", "channel"],
}


def program(name):
    """FAQ_TRAIN and the like, or what the usual build folder has."""
    variable = name.upper().replace("-", "_")
    return os.path.abspath(os.environ.get(variable, os.path.join(PROJECT, "build", name)))


def run(words, **more):
    return subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT,
                          **more)


def output_of(words, **more):
    done = run(words, **more)
    if done.returncode != 0:
        raise AssertionError("%s\nended with %d\n%s%s" %
                             (" ".join(map(str, words)), done.returncode, done.stdout, done.stderr))
    return done.stdout


def quantized(data, folder, model, size, scheme):
    """integer.safetensors of a network that was calibrated and not trained."""
    output_of([program("faq-train"), "--model", model, "--data-path", data, "--output-dir", folder, "--epochs", 0, "-b", 2,
               "--train-crop-size", size, "--val-crop-size", size, "--val-resize-size", size, "--calibration-batches", 1,
               "--threads", 1, "-j", 1, "--quiet", *SCHEMES[scheme]])
    return os.path.join(folder, "integer.safetensors")
