"""Short runs of faq-train for the campaigns: their data, their options, and what makes two of them equal."""
import json
import os
import subprocess
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(PROJECT, "tests"))
from run_files import damage_of, tensors_of, write_cifar, write_idx, write_images, write_tar  # noqa: E402

TRAIN = os.path.abspath(os.environ.get("FAQ_TRAIN", os.path.join(PROJECT, "build", "faq-train")))
EVAL = os.path.abspath(os.environ.get("FAQ_EVAL", os.path.join(PROJECT, "build", "faq-eval")))

# Without what mpirun, Slurm or the caller say of threads: a run of one thread, which does not spin.
ENVIRONMENT = {**{name: value for name, value in os.environ.items()
                  if not name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_", "OMP_", "FAQ_"))},
               "OMP_WAIT_POLICY": "passive", "LC_ALL": "C"}

# Three steps an epoch.
DATA = {
    "folder": lambda folder: write_images(folder, 12, 6),
    "tar": lambda folder: write_tar(folder, 12, 6),
    "idx": lambda folder: write_idx(folder, 12, 6),
    "cifar": lambda folder: write_cifar(folder, 12, 10),
}

SCHEMES = {
    "none": ["--scheme", "none"],
    "faq 8": ["--scheme", "faq", "--bits", "8"],
    "faq 4": ["--scheme", "faq", "--bits", "4"],
    "faq 3, 5": ["--scheme", "faq", "--weight-bits", "3", "--act-bits", "5"],
    "dfp ternary": ["--scheme", "dfp", "--weight-bits", "2"],
    "dfp 4": ["--scheme", "dfp", "--weight-bits", "4", "--cluster-size", "8"],
    "dorefa 4": ["--scheme", "dorefa", "--bits", "4"],
    "lsq 4": ["--scheme", "lsq", "--bits", "4"],
    "lsq 2, channels": ["--scheme", "lsq", "--bits", "2", "--weight-scales", "channel"],
}
METHODS = {
    "plain": [],
    "stages": ["--stages", "weights,both"],
    "bits": ["--bits-schedule", "8,4"],
    "stochastic": ["--stochastic-precision"],
    "joint": ["--distill", "joint"],
    "frozen": ["--distill", "frozen", "--weights", "TEACHER"],
    "average": ["--model-ema=0.9"],
    "accumulated": ["--grad-accum-steps", "2", "--clip-grad-norm", "1", "--label-smoothing", "0.1"],
    "held, cosine": ["--hold-weight-scales", "0.3", "--lr-scheduler", "cosine", "--lr-warmup-epochs", "0.5"],
    "simulated": ["--engine", "simulated"],
    "all at once": ["--stages", "weights,both", "--stochastic-precision", "--distill", "joint", "--model-ema=0.9"],
}
# What faq-train refuses, as docs/methods.md says: training in parts of integers without a scheme; a schedule of bits of
# dfp and dorefa beyond theirs; scales of lsq that are held.
REFUSED = {("none", method) for method in ("stages", "bits", "stochastic", "held, cosine", "all at once")}
REFUSED |= {(scheme, "bits") for scheme in SCHEMES if not scheme.startswith(("faq", "lsq"))}
REFUSED |= {(scheme, "held, cosine") for scheme in SCHEMES if scheme.startswith("lsq")}


def table():
    """[(scheme, method, kind of data)]: all combinations; the kinds of data take turns."""
    pairs = [(scheme, method) for scheme in SCHEMES for method in METHODS if (scheme, method) not in REFUSED]
    kinds = list(DATA)
    return [(scheme, method, "folder" if method == "frozen" else kinds[i % len(kinds)])
            for i, (scheme, method) in enumerate(pairs)]


def options(row, shared):
    """Of faq-train for a row of the table, without the output folder. `shared`: where the data are."""
    scheme, method, kind = row
    words = ["--model", "resnet20", "--data-path", os.path.join(shared, kind), "-b", "4", "--epochs", "2", "--lr", "0.01",
             "--threads", "1", "-j", "1", "--print-freq", "1", "--checkpoint-interval", "1", "--seed", "3"]
    if scheme != "none":
        words += ["--calibration-batches", "2"]
    number_format = SCHEMES[scheme]
    if method == "bits":  # the schedule says them
        number_format = [word for option, value in zip(number_format[::2], number_format[1::2])
                         if not option.endswith("bits") for word in (option, value)]
    words += number_format + METHODS[method]
    return [os.path.join(shared, "teacher", "best.safetensors") if word == "TEACHER" else word for word in words]


class Ended:
    """How a program ended; `code` is minus the number of a signal that ended it."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def last_line(self):
        return (self.err.strip().splitlines() or [""])[-1]


def run(program, words, folder=None, seconds=120, **environment):
    done = subprocess.run([program, *words], cwd=folder, env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", timeout=seconds)
    return Ended(done.returncode, done.stdout, done.stderr)


def write_shared(shared):
    """The data, and the network that some runs begin from or learn from."""
    for kind, write in DATA.items():
        write(os.path.join(shared, kind))
    done = run(TRAIN, options(("none", "plain", "folder"), shared) + ["--output-dir", os.path.join(shared, "teacher")])
    if done.code != 0:
        raise SystemExit("the first run ended with %d: %s" % (done.code, done.err))


# What no two runs have in common.
MEASURED = {"images_per_s", "val_images_per_s", "peak_bytes"}


def metrics_of(folder):
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        return [{key: value for key, value in json.loads(line).items() if key not in MEASURED} for line in file]


def summary_of(folder):
    with open(os.path.join(folder, "summary.csv"), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(",") for line in file]
    return [[cell for name, cell in zip(rows[0], row) if name not in MEASURED] for row in rows]


def left_behind(folder):
    """Temporary files."""
    return sorted(name for name in os.listdir(folder) if ".tmp." in name) if os.path.isdir(folder) else []


def damaged(folder):
    """[what is wrong] with the networks and checkpoints of a folder, of which each must be whole at any time."""
    if not os.path.isdir(folder):
        return []
    files = [name for name in sorted(os.listdir(folder)) if name.endswith(".safetensors")]
    return ["%s: %s" % (name, damage) for name in files if (damage := damage_of(os.path.join(folder, name)))]


def difference(folder, expected):
    """What a finished run left that another one did not, or differently; empty: the same bits."""
    for name in ("last", "best", "integer"):
        file, other = (os.path.join(run, name + ".safetensors") for run in (folder, expected))
        if os.path.exists(file) != os.path.exists(other):
            return "%s.safetensors: only one of the runs has it" % name
        if not os.path.exists(other):
            continue
        left, right = tensors_of(file), tensors_of(other)
        if left.keys() != right.keys():
            return "%s.safetensors: other tensors" % name
        differing = [key for key in left if left[key] != right[key]]
        if differing:
            return "%s.safetensors: %d tensors differ, e.g. %s" % (name, len(differing), differing[0])
    rows, others = metrics_of(folder), metrics_of(expected)
    for number, (row, other) in enumerate(zip(rows, others), 1):
        if row != other:
            return "metrics.jsonl, line %d: %s, expected %s" % (number, json.dumps(row), json.dumps(other))
    if len(rows) != len(others):
        return "metrics.jsonl: %d lines, expected %d" % (len(rows), len(others))
    if summary_of(folder) != summary_of(expected):
        return "summary.csv differs"
    return ""


def print_table(header, rows):
    """As Markdown."""
    rows = [[str(cell) for cell in row] for row in rows]
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |")
