#!/usr/bin/env python3
"""Runs of several ranks, under mpirun and under a two-node Slurm within this machine (tests/slurm/up.sh).

  FAQ_TRAIN=build/faq-train FAQ_EVAL=build/faq-eval tests/cluster_test.py [--kills N] [CLASS[.TEST] …]

--kills N: how many ranks are killed, one after the other (3). The exit code is 77 if everything was skipped.
With FAQ_CLUSTER_TESTS=required what would be skipped fails.
"""
import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

from run_files import tensors_of, write_cifar, write_png

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLURM = os.path.join(PROJECT, "tests", "slurm")
TRAIN = os.path.abspath(os.environ.get("FAQ_TRAIN", os.path.join(PROJECT, "build", "faq-train")))
EVAL = os.path.abspath(os.environ.get("FAQ_EVAL", os.path.join(PROJECT, "build", "faq-eval")))
KILLS = 3
TOKEN = "FAQ_CLUSTER_TEST"  # in the environment of everything that a test starts
os.environ["PATH"] += ":/usr/sbin:/sbin"
os.environ["LC_ALL"] = "C"


def why_not():
    """Why runs of several ranks cannot be tested here; empty if they can."""
    if not os.access(TRAIN, os.X_OK):
        return "no program %s (FAQ_TRAIN)" % TRAIN
    if shutil.which("mpirun") is None:
        return "no mpirun (tools/install_deps.sh)"
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in version and "OpenRTE" not in version:
        return "mpirun is not Open MPI's, but %s" % (version.split("\n")[0] or "unknown")
    built = subprocess.run([TRAIN, "--version"], capture_output=True, text=True)
    if "Open MPI" not in built.stdout + built.stderr:
        return "%s is built without Open MPI" % TRAIN
    return ""


def open_mpi_version():
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    return int(re.search(r"\d+", version).group())


def environment(token, **more):
    """Of mpirun and of what it starts."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("OMPI_", "PMIX_", "PMI_", "SLURM_", "OMP_"))}
    return {**kept, TOKEN: token, "OMP_WAIT_POLICY": "passive",
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            # In a container a process may not read another one's memory; Open MPI would say so at length.
            "OMPI_MCA_btl_vader_single_copy_mechanism": "none", **more}


def processes(name, value):
    """{number: environment} of the living processes that have this in their environment."""
    found = {}
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open("/proc/%d/environ" % number, "rb") as file:
                pairs = dict(pair.split("=", 1) for pair in file.read().decode(errors="replace").split("\0") if "=" in pair)
            with open("/proc/%d/stat" % number) as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if pairs.get(name) == value and state not in "ZX" and number != os.getpid():
            found[number] = pairs
    return found


def ranks_of(token):
    """{rank: number} of the processes of faq-train with this token."""
    found = {}
    for number, pairs in processes(TOKEN, token).items():
        try:
            program = os.readlink("/proc/%d/exe" % number)
        except OSError:
            continue
        rank = pairs.get("OMPI_COMM_WORLD_RANK", pairs.get("SLURM_PROCID"))
        if rank is not None and program == os.path.realpath(TRAIN):
            found[int(rank)] = number
    return found


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError("%s: not within %d s" % (what, seconds))


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


class Finished:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return "exit code %s\n%s\n%s" % (self.code, self.out, self.err)


class Running:
    """A launcher and its ranks, and what they say in files: a process that is left behind would keep a pipe open."""

    def __init__(self, test, command, token, env):
        self.test, self.token = test, token
        self.said = os.path.join(test.folder, "said-%s" % uuid.uuid4().hex[:8])
        with open(self.said + ".out", "wb") as out, open(self.said + ".err", "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env,
                                            cwd=test.folder, start_new_session=True)
        test.addCleanup(self.end)

    def err(self):
        return read(self.said + ".err")

    def wait_for_step(self, step, seconds=60):
        """Until rank 0 has said that this step is done."""
        def reached():
            steps = [int(found) for found in re.findall(r"^epoch \S+ step (\d+)/", self.err(), re.M)]
            if self.process.poll() is not None:
                raise AssertionError("ended before step %d: %r" % (step, self.finish()))
            return steps and max(steps) >= step

        wait_for("step %d" % step, reached, seconds)

    def ranks(self, count):
        return wait_for("%d ranks" % count,
                        lambda: (lambda found: len(found) == count and found)(ranks_of(self.token)))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def finish(self, seconds=120):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            left = ranks_of(self.token)
            raise AssertionError("still running after %d s, ranks %s: %s" % (seconds, sorted(left), self.err())) from None
        return Finished(128 - code if code < 0 else code, read(self.said + ".out"), self.err())


class ClusterTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.shared = tempfile.mkdtemp(prefix="faq-")
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        cls.data = os.path.join(cls.shared, "cifar")
        write_cifar(cls.data)
        cls.base = {}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="faq-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.token = uuid.uuid4().hex
        self.addCleanup(self.nobody_is_left)

    def nobody_is_left(self):
        end = time.monotonic() + 15
        while processes(TOKEN, self.token) and time.monotonic() < end:
            time.sleep(0.1)
        left = {}
        for number in processes(TOKEN, self.token):
            left[number] = read("/proc/%d/cmdline" % number).replace("\0", " ")
            os.kill(number, signal.SIGKILL)
        self.assertEqual(left, {}, "processes were left behind")

    def path(self, name):
        return os.path.join(self.folder, name)  # an absolute one stays as it is

    def script(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text)
        os.chmod(self.path(name), 0o755)
        return self.path(name)

    def options(self, *more, out, data=None, shards=4):
        """Of a run. What is in `more` replaces it. shards=None: the program's default."""
        usual = {"--model": "resnet20", "--data-path": data or self.data, "--batch-size": 5, "--lr": 0.01, "--threads": 1,
                 "-j": 1, "--print-freq": 1, "--output-dir": self.path(out)}
        if shards:
            usual["--shards"] = shards
        return [str(word) for option in usual.items() if option[0] not in more for word in option] + list(more)

    def mpirun(self, ranks, *command, program=None, env={}, keep_others=False):
        """keep_others: a rank that ends with an error does not make mpirun end the others: they must end by themselves.
        Then mpirun itself ends with 0."""
        mca = ["--mca", "orte_abort_on_non_zero_status", "0"] if keep_others else []
        return Running(self, ["mpirun", "--oversubscribe", "--bind-to", "none", *mca, "-n", str(ranks),
                              program or TRAIN, *command], self.token, environment(self.token, **env))

    def alone(self, *command, program=TRAIN):
        done = Running(self, [program, *command], self.token, environment(self.token)).finish()
        self.assertEqual(done.code, 0, done)
        return done

    def trained(self, ranks, *more, out, shards=4):
        done = self.mpirun(ranks, *self.options(*more, out=out, shards=shards)).finish()
        self.assertEqual(done.code, 0, done)
        return done

    def baseline(self, *more, shards=4):
        """The folder of an uninterrupted run of one process. Once for each set of options."""
        key = (shards, *more)
        if key not in self.base:
            self.base[key] = os.path.join(self.shared, "base%d" % len(self.base))
            self.alone(*self.options(*more, out=self.base[key], shards=shards))
        return self.base[key]

    def assert_same_run(self, a, b):
        """The tensors of all that a run leaves, and what it counted."""
        for name in ("last", "best", "integer"):
            files = [os.path.join(self.path(folder), name + ".safetensors") for folder in (a, b)]
            if name == "integer" and not any(map(os.path.exists, files)):
                continue
            left, right = map(tensors_of, files)
            self.assertEqual(left.keys(), right.keys(), name)
            self.assertEqual([key for key in left if left[key] != right[key]], [], "%s: tensors that differ" % name)
        self.assertEqual(*[self.summary(folder) for folder in (a, b)])

    def summary(self, folder):
        rows = [line.split(",") for line in read(os.path.join(self.path(folder), "summary.csv")).splitlines()]
        self.assertGreater(len(rows), 1)
        return [[cell for name, cell in zip(rows[0], row) if "per_s" not in name] for row in rows]


FAQ4 = ("--preset", "faq-4bit", "--epochs", "1")


class SameBits(ClusterTest):
    def test_methods(self):
        table = [
            ("faq, 4 bits", FAQ4),
            ("fp32", ("--preset", "fp32", "--epochs", "1")),
            ("clipped, smoothed", ("--preset", "fp32", "--epochs", "1", "--clip-grad-norm", "1", "--label-smoothing", "0.1")),
            ("dfp, ternary", ("--preset", "dfp-ternary", "--epochs", "1")),
            ("dorefa", ("--scheme", "dorefa", "--bits", "4", "--epochs", "1")),
            ("moving average", (*FAQ4, "--model-ema=0.9")),
            ("joint distillation", (*FAQ4, "--distill", "joint")),
            ("stages", ("--preset", "faq-4bit", "--epochs", "2", "--stages", "weights,both")),
            ("stochastic precision", (*FAQ4, "--stochastic-precision=0.5")),
            ("s16", (*FAQ4, "--allreduce", "s16")),
        ]
        for row, (name, options) in enumerate(table):
            base = self.baseline(*options)
            for ranks in (1, 2, 4):
                with self.subTest(name, ranks=ranks):
                    out = "%d-%d" % (row, ranks)
                    self.trained(ranks, *options, out=out)
                    self.assert_same_run(base, out)

    def test_three_ranks(self):
        base = self.baseline(*FAQ4, shards=6)
        for ranks in (3, 6):
            with self.subTest(ranks=ranks):
                self.trained(ranks, *FAQ4, out="of%d" % ranks, shards=6)
                self.assert_same_run(base, "of%d" % ranks)

    def test_default_shards(self):
        # Ranks × --grad-accum-steps.
        base = self.baseline(*FAQ4)
        self.trained(2, *FAQ4, "--grad-accum-steps", "2", out="a", shards=None)
        self.assert_same_run(base, "a")

    def test_other_shards_differ(self):
        # Or the comparisons above would compare nothing.
        left, right = (tensors_of(os.path.join(self.baseline(*FAQ4, shards=shards), "last.safetensors")) for shards in (4, 6))
        self.assertEqual(left.keys(), right.keys())
        self.assertTrue(any(left[name] != right[name] for name in left))

    def test_sum_of_the_library(self):
        for out in ("a", "b"):
            self.trained(2, *FAQ4, "--allreduce", "mpi", out=out)
        self.assert_same_run("a", "b")

    def test_evaluation(self):
        run = self.baseline(*FAQ4)
        for file in ("integer", "last"):
            command = ["--weights", os.path.join(run, file + ".safetensors"), "--data-path", self.data, "--batch-size",
                       "5", "--threads", "1", "--json"]
            results = []
            for ranks in (0, 1, 2, 3):
                with self.subTest(file, ranks=ranks):
                    done = self.mpirun(ranks, *command, program=EVAL).finish() if ranks else self.alone(*command, program=EVAL)
                    self.assertEqual(done.code, 0, done)
                    results.append(json.loads(done.out))
                    results[-1].pop("images_per_s")
                    self.assertEqual(results[-1]["images"], 47)
                    self.assertEqual(results[-1], results[0])

    def test_what_one_rank_does(self):
        run = self.baseline(*FAQ4)
        weights = os.path.join(run, "integer.safetensors")
        best = os.path.join(run, "best.safetensors")
        table = [
            ("--compare", EVAL, ["--weights", weights, "--compare", best, "--data-path", self.data, "--threads", "1"]),
            ("--predict", EVAL, ["--weights", weights, "--predict", self.image()]),
            ("--analyze weight-scales", EVAL, ["--weights", best, "--analyze", "weight-scales", "--data-path", self.data,
                                               "--threads", "1", "--output-dir", self.path("scales")]),
            ("--dry-run", TRAIN, [*self.options(*FAQ4, out="none"), "--dry-run"]),
        ]
        for name, program, command in table:
            with self.subTest(name):
                alone = self.alone(*command, "--json", program=program)
                done = self.mpirun(3, *command, "--json", program=program).finish()
                self.assertEqual(done.code, 0, done)
                self.assertEqual(json.loads(done.out), json.loads(alone.out))
                self.assertIn("%s: 1 of 3 ranks is used" % name, done.err)

    def image(self):
        write_png(self.path("image.png"), 5)
        return self.path("image.png")

    def test_rank_0_speaks(self):
        def said(text):
            # Without rates, times and memory, and without what depends on the launcher.
            pattern = (r"left \S+|[\d.]+ images/s|[\d.]+/s|in [\d.]+ s|; .* s, .*peak.*| +\d+$|"
                       + re.escape(self.folder) + r"(?:/alone|/of\d)?")
            lines = [re.sub(pattern, "", line) for line in text.splitlines()]
            # MPI's own lines begin with the host's name in brackets, or are empty; progress within an epoch comes by the clock.
            other = r"^$|thread|rank|MPI|fewer than 16|reachable pairing|^\[|^epoch .* step "
            return [line for line in lines if not re.search(other, line)]

        alone = self.alone(*self.options(*FAQ4, out="alone"))
        for ranks in (2, 4):
            done = self.trained(ranks, *FAQ4, out="of%d" % ranks)
            self.assertEqual(said(done.out), said(alone.out))
            self.assertEqual(said(done.err), said(alone.err))
        self.assertEqual(sorted(os.listdir(self.path("alone"))), sorted(os.listdir(self.path("of4"))))


class Resume(ClusterTest):
    OPTIONS = ("--preset", "faq-4bit", "--epochs", "2", "--model-ema=0.9")

    def test_other_ranks(self):
        base = self.baseline(*self.OPTIONS)
        for ranks, stop_at in ((4, 2), (2, 5), (1, 3), (4, None)):
            # K is taken from the checkpoint.
            command = self.options(*self.OPTIONS, "--resume", "auto", out="run")
            run = self.mpirun(ranks, *command)
            if stop_at:
                run.wait_for_step(stop_at)
                # A signal on one rank only.
                os.kill(run.ranks(ranks)[ranks - 1], signal.SIGUSR1)
            done = run.finish()
            self.assertEqual(done.code, 75 if stop_at else 0, done)
        self.assert_same_run(base, "run")

    def test_launcher_passes_signals_on(self):
        run = self.mpirun(2, *self.options(*self.OPTIONS, "--resume", "auto", out="run"))
        run.wait_for_step(1)
        run.process.send_signal(signal.SIGUSR1)
        self.assertEqual(run.finish().code, 75)
        self.trained(1, *self.OPTIONS, "--resume", "auto", out="run")
        self.assert_same_run(self.baseline(*self.OPTIONS), "run")

    def test_killed(self):
        base = self.baseline(*self.OPTIONS)
        seed = random.randrange(10**6)
        draw = random.Random(seed)
        for kill in range(KILLS):
            ranks, step = draw.choice((2, 4)), draw.randrange(1, 9)
            victim = draw.randrange(ranks)
            with self.subTest(seed=seed, kill=kill, ranks=ranks, rank=victim, step=step):
                out = "run%d" % kill
                command = self.options(*self.OPTIONS, "--resume", "auto", "--checkpoint-interval", "2", "--rank-timeout",
                                       "5", out=out)
                run = self.mpirun(ranks, *command)
                run.wait_for_step(step)
                os.kill(run.ranks(ranks)[victim], signal.SIGKILL)
                self.assertNotIn(run.finish(30).code, (0, 75))
                done = self.mpirun(draw.choice((1, 2, 4)), *command).finish()
                self.assertEqual(done.code, 0, done)
                self.assert_same_run(base, out)
                shutil.rmtree(self.path(out))


class Failure(ClusterTest):
    LONG = ("--preset", "faq-4bit", "--epochs", "200", "--rank-timeout", "5")

    def codes(self, ranks, *command, before=""):
        """Runs a script on each rank that notes the program's exit code: (its end with rank 0's, {rank: code}).

        `before` is text of the script in which $rank is the rank, and which may change $@."""
        noting = self.script("note", 'rank=$OMPI_COMM_WORLD_RANK\n%s\n%s "$@"\ncode=$?\necho $code >%s/code.$rank\nexit $code\n' %
                             (before, shlex.quote(TRAIN), shlex.quote(self.folder)))
        for rank in range(ranks):  # of an earlier call
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path("code.%d" % rank))
        done = self.mpirun(ranks, *command, program=noting, keep_others=True).finish()
        codes = {rank: int(code) for rank in range(ranks) if (code := read(self.path("code.%d" % rank)).strip())}
        if open_mpi_version() < 5:  # later ones end the others all the same, as soon as one has ended
            self.assertEqual(len(codes), ranks, done)
        errors = [line for line in done.err.splitlines() if line.startswith("faq-train: ") and "warning" not in line]
        self.assertEqual(len(errors), 1, "expected one line of error: %s" % done.err)
        return Finished(codes.get(0, next(iter(codes.values()), -1)), done.out, done.err), codes

    def test_stopped(self):
        for ranks, victim in ((2, 0), (2, 1), (4, 2)):
            with self.subTest(ranks=ranks, rank=victim):
                run = self.mpirun(ranks, *self.options(*self.LONG, out="run%d%d" % (ranks, victim)))
                run.wait_for_step(2)
                os.kill(run.ranks(ranks)[victim], signal.SIGSTOP)
                began = time.monotonic()
                done = run.finish(30)
                self.assertGreater(time.monotonic() - began, 4)
                self.assertNotIn(done.code, (0, 75), done)
                self.assertRegex(done.err, r"nothing was heard of rank %d of %d" % (victim, ranks))
                self.nobody_is_left()

    def test_stopped_by_a_signal(self):
        run = self.mpirun(4, *self.options(*self.LONG, out="run"))
        run.wait_for_step(2)
        for number in run.ranks(4).values():
            os.kill(number, signal.SIGTERM)  # all at once, as Slurm does
        self.assertEqual(run.finish(30).code, 75)

    def test_differing_ranks(self):
        other, few = self.path("other"), self.path("few")
        write_cifar(other, training=192, validation=48)
        write_cifar(few, training=188)
        table = [
            ("an option", 'if [ $rank = 1 ]; then set -- "$@" --momentum 0.8; fi', "momentum"),
            ("images", 'if [ $rank = 1 ]; then set -- "${@/%s/%s}"; fi' % (self.data.replace("/", r"\/"), few), r"1(88|93)"),
            ("threads", 'if [ $rank = 1 ]; then set -- "$@" --threads 2; fi', "thread"),
        ]
        for name, before, message in table:
            with self.subTest(name):
                options = self.options(*FAQ4, out=name.split()[-1])
                if name == "threads":
                    at = options.index("--threads")
                    del options[at:at + 2]
                    before += "; if [ $rank = 0 ]; then set -- \"$@\" --threads 1; fi"
                done, codes = self.codes(2, *options, before=before)
                self.assertIn(done.code, (64, 65), done)
                self.assertEqual(set(codes.values()), {done.code}, done)
                self.assertRegex(done.err, r"rank 1")
                self.assertRegex(done.err, message)

    def test_shards(self):
        done, codes = self.codes(3, *self.options(*FAQ4, out="run"))
        self.assertEqual((done.code, set(codes.values())), (64, {64}), done)
        self.assertRegex(done.err, r"(?s)\b4\b.*\b3\b|\b3\b.*\b4\b")

    def test_an_error_of_all(self):
        # Whichever rank is first: it is said once.
        for name, more, code in (("no data", ("--data-path", self.path("nowhere")), 66), ("usage", ("--lr", "x"), 64)):
            for attempt in range(3):
                with self.subTest(name, attempt=attempt):
                    done, codes = self.codes(3, *self.options(*FAQ4, *more, out="run", shards=3))
                    self.assertEqual(set(codes.values()), {code}, done)

    def test_bad_image(self):
        data = self.path("images")
        files = [os.path.join(data, "train", "ab"[i % 2], "%03d.png" % i) for i in range(40)]
        for i, file in enumerate(files):
            write_png(file, i)
        for i in range(4):
            write_png(os.path.join(data, "val", "ab"[i % 2], "%d.png" % i), i)
        messages = []
        for i in (7, 28, 3, 14):
            # Which rank reads it is a matter of the order of the epoch.
            bad = files[i]
            os.truncate(bad, 60)
            done, codes = self.codes(2, *self.options("--preset", "fp32", "--epochs", "1", out="run%d" % i, data=data))
            self.assertEqual((done.code, set(codes.values())), (65, {65}), done)
            self.assertIn(os.path.basename(bad), done.err)
            messages.append(done.err)
            write_png(bad, i)
            if "rank 1 of 2" in done.err:
                break
        self.assertRegex("".join(messages), r"rank 1 of 2 [^\n]*\.png")

    def test_full_disk(self):
        os.makedirs(self.path("run"))
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", self.path("run")], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("mount is not permitted")
        self.addCleanup(subprocess.run, ["umount", self.path("run")], check=True)
        done, codes = self.codes(2, *self.options(*FAQ4, out="run"))
        self.assertEqual((done.code, set(codes.values())), (74, {74}), done)
        self.assertIn("best.safetensors: ", done.err)
        self.assertNotIn("best.safetensors", os.listdir(self.path("run")))

    def test_locked_folder(self):
        run = self.mpirun(2, *self.options(*self.LONG, out="run"))
        run.wait_for_step(1)
        done, codes = self.codes(2, *self.options(*self.LONG, out="run"))
        self.assertEqual((done.code, set(codes.values())), (64, {64}), done)
        self.assertIn("another run is writing", done.err)
        os.kill(run.ranks(2)[0], signal.SIGUSR1)
        self.assertEqual(run.finish().code, 75)


class Docs(ClusterTest):
    def test_options(self):
        """What docs/cluster.md has in its commands is what the programs know."""
        known = {program: subprocess.run([program, "--help"], capture_output=True, text=True).stdout for program in (TRAIN, EVAL)}
        blocks = re.findall(r"```sh\n(.*?)```", read(os.path.join(PROJECT, "docs", "cluster.md")), re.S)
        commands = re.findall(r"\b(faq-train|faq-eval) (.*)", "\n".join(blocks).replace("\\\n", " "))
        self.assertGreater(len(commands), 4)
        for name, words in commands:
            for option in re.findall(r"--[a-z][a-z-]*", words):
                self.assertRegex(known[TRAIN if name == "faq-train" else EVAL], r"(?m)^ .*%s\b" % option, words)


class SlurmTest(ClusterTest):
    NET = "0"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = {**environment("none"), "FAQ_SLURM_DIR": os.path.join(cls.shared, "slurm"), "FAQ_SLURM_NET": cls.NET,
                       "FAQ_SLURM_PORT": str(20000 + 300 * random.randrange(40))}
        up = subprocess.run([os.path.join(SLURM, "up.sh")], env=cls.cluster, capture_output=True, text=True)
        if up.returncode == 77:
            raise unittest.SkipTest(up.stderr.strip())
        if up.returncode != 0:
            raise AssertionError(up.stdout + up.stderr)
        cls.addClassCleanup(cls.down)
        text = subprocess.run(["bash", "-c", '. "$FAQ_SLURM_DIR/env" && env -0'], env=cls.cluster, capture_output=True,
                              text=True, check=True).stdout
        cls.cluster = dict(pair.split("=", 1) for pair in text.split("\0") if pair)

    @classmethod
    def down(cls):
        subprocess.run([os.path.join(SLURM, "down.sh")], env=cls.cluster, check=True)
        left = processes("SLURM_CONF", cls.cluster["SLURM_CONF"])
        if left or os.path.exists(os.path.join(cls.shared, "slurm")):
            raise AssertionError("down.sh left processes %s or its folder" % left)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.no_job_is_left)

    def jobs(self):
        return self.slurm("squeue", "-h", "-o", "%A").split()

    def no_job_is_left(self):
        try:
            wait_for("no job", lambda: not self.jobs(), 60)
        finally:
            left = self.jobs()
            if left:
                self.slurm("scancel", *left)

    def environment(self):
        return {**self.cluster, TOKEN: self.token}

    def slurm(self, *command):
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, (command, done.stdout, done.stderr))
        return done.stdout.strip()

    def srun(self, *command, mpi="pmix", srun=(), program=None):
        return Running(self, ["srun", *(["--mpi=" + mpi] if mpi else []), "--kill-on-bad-exit=1", "-N", "2", "-n", "2",
                              *srun, program or TRAIN, *command], self.token, self.environment())


class Slurm(SlurmTest):
    def job_script(self, with_mpirun=False):
        """The job of docs/cluster.md as it stands there. `faq-train` is found in PATH."""
        docs = read(os.path.join(PROJECT, "docs", "cluster.md"))
        (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH --nodes=4.*?)```", docs, re.S)
        self.assertIn("--signal=USR1@", script)
        if with_mpirun:
            (other,) = re.findall(r"```sh\n(mpirun [^`]*\ntrap .*?)```", docs, re.S)
            script, count = re.subn(r"(?m)^srun .*\ncode=.*\n", lambda _: other, script.replace("USR1@", "B:USR1@"))
            self.assertEqual(count, 1)
        os.makedirs(self.path("bin"))
        os.symlink(TRAIN, self.path("bin/faq-train"))
        with open(self.path("train.sh"), "w", encoding="utf-8") as file:
            file.write(script)

    def sbatch(self, *command, sbatch=(), **script):
        self.job_script(**script)
        out = self.path("job.out")
        job = self.slurm("env", "PATH=%s:%s" % (self.path("bin"), os.environ["PATH"]), "sbatch", "--parsable", "--nodes=2",
                         "--ntasks-per-node=1", "--cpus-per-task=1", "--chdir", self.folder, "--output", out, *sbatch,
                         self.path("train.sh"), *command)
        return job, out

    def steps_said(self, out):
        return len(re.findall(r"^epoch \S+ step ", read(out), re.M))

    def state(self, job):
        found = re.search(r"JobState=(\S+)", self.slurm("scontrol", "show", "job", job))
        return found.group(1)

    def wait_for_end(self, job, out, seconds):
        try:
            return wait_for("the end of job " + job, lambda: (lambda state: state not in (
                "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED") and state)(self.state(job)), seconds)
        except AssertionError as error:
            raise AssertionError("%s: %s, %s" % (error, self.state(job), read(out))) from None

    def test_time_is_over(self):
        # Slurm looks every 30 seconds, and signals half a minute early if need be: 5 to 35 seconds after the start. Until
        # then the ranks are stopped within a step, or the run would be over. Slurm wakes what it signals.
        base = self.baseline(*Resume.OPTIONS)
        job, out = self.sbatch(*self.options(*Resume.OPTIONS, "--rank-timeout", "300", out="run"),
                               sbatch=["--time=2", "--signal=USR1@85"])
        wait_for("the first steps", lambda: self.steps_said(out) >= 2)
        ranks = ranks_of(self.token)
        self.assertEqual(sorted(ranks), [0, 1], read(out))
        for number in ranks.values():
            os.kill(number, signal.SIGSTOP)
        wait_for("SIGUSR1", lambda: not set(ranks.values()) & processes(TOKEN, self.token).keys(), 60)
        self.assertLess(self.steps_said(out), 12)
        self.assertEqual(self.wait_for_end(job, out, 90), "COMPLETED", read(out))
        text = self.slurm("scontrol", "show", "job", job)
        self.assertRegex(text, r"Restarts=[1-9]")
        self.assertIn("resum", read(out))
        self.assert_same_run(base, "run")

    def test_mpirun_in_a_job(self):
        base = self.baseline(*Resume.OPTIONS)
        job, out = self.sbatch(*self.options(*Resume.OPTIONS, out="run"), sbatch=["--time=5"], with_mpirun=True)
        wait_for("the first steps", lambda: self.steps_said(out) >= 2)
        self.slurm("scancel", "--batch", "--signal=USR1", job)
        self.assertEqual(self.wait_for_end(job, out, 90), "COMPLETED", read(out))
        self.assertRegex(self.slurm("scontrol", "show", "job", job), r"Restarts=1\b")
        self.assert_same_run(base, "run")

    def test_cancelled(self):
        base = self.baseline(*Resume.OPTIONS)
        job, out = self.sbatch(*self.options(*Resume.OPTIONS, out="run"), sbatch=["--time=5"])
        wait_for("the first steps", lambda: self.steps_said(out) >= 3)
        self.slurm("scancel", job)
        self.assertEqual(self.wait_for_end(job, out, 30), "CANCELLED", read(out))
        self.nobody_is_left()
        done = self.alone(*self.options(*Resume.OPTIONS, "--resume", "auto", out="run"))
        self.assertIn("resum", done.err)
        self.assert_same_run(base, "run")

    def test_lost_ranks(self):
        for number, sent, name in ((1, signal.SIGKILL, "killed"), (0, signal.SIGSTOP, "stopped"), (1, signal.SIGSTOP, "stopped")):
            with self.subTest(name, rank=number):
                run = self.srun(*self.options(*Failure.LONG, out="%s%d" % (name, number)))
                run.wait_for_step(2)
                os.kill(run.ranks(2)[number], sent)
                done = run.finish(60)
                self.assertNotIn(done.code, (0, 75), done)
                if sent == signal.SIGSTOP:
                    self.assertRegex(done.err, r"nothing was heard of rank %d of 2 \(n%d\)" % (number, number + 1))
                self.nobody_is_left()

    def test_exit_codes(self):
        cut = self.path("cut")
        write_cifar(cut)
        with open(os.path.join(cut, "data_batch_3.bin"), "ab") as file:
            file.write(b"x")
        table = [
            ("done", [], None, 0),
            ("usage", ["--lr", "x"], None, 64),
            ("bad data", [], cut, 65),
        ]
        for name, more, data, code in table:
            with self.subTest(name):
                # All ranks end by themselves. (With --kill-on-bad-exit the first may have the others killed, and srun
                # ends with the largest code, which is that of a signal.)
                done = self.srun(*self.options(*FAQ4, *more, out=name.split()[-1], data=data),
                                 srun=["--kill-on-bad-exit=0"]).finish()
                self.assertEqual(done.code, code, done)
        run = self.srun(*self.options(*Failure.LONG, out="signalled"))
        run.wait_for_step(1)
        os.kill(run.ranks(2)[1], signal.SIGUSR1)
        done = run.finish()
        self.assertEqual(done.code, 75, done)

    def test_without_pmix(self):
        done = self.srun(*self.options(*FAQ4, out="run"), mpi="none", srun=["--kill-on-bad-exit=0"]).finish()
        self.assertEqual(done.code, 64, done)
        self.assertIn("srun --mpi=pmix", done.err)
        self.assertFalse(os.path.exists(self.path("run")))


class SlurmNet(SlurmTest):
    """Nodes with a network of their own."""
    NET = "1"

    def test_cut_link(self):
        run = self.srun(*self.options(*Failure.LONG, out="run"))
        run.wait_for_step(2)
        run.ranks(2)
        began = time.monotonic()
        self.slurm("ip", "link", "set", "faq2", "down")
        try:
            wait_for("the end of all ranks", lambda: not ranks_of(self.token), 60)
            done = run.finish(60 - int(time.monotonic() - began))
            self.assertNotIn(done.code, (0, 75), done)
            self.assertIn("nothing was heard of rank 1 of 2 (n2)", done.err)
        finally:
            self.slurm("ip", "link", "set", "faq2", "up")


def main(arguments):
    global KILLS
    if "--kills" in arguments:
        at = arguments.index("--kills")
        KILLS = int(arguments[at + 1])
        del arguments[at:at + 2]
    # What a test starts must not be left behind when the test program is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program = unittest.main(argv=[sys.argv[0], *arguments], exit=False, verbosity=2)
    result = program.result
    if result.skipped and os.environ.get("FAQ_CLUSTER_TESTS") == "required":
        print("skipped, though FAQ_CLUSTER_TESTS=required", file=sys.stderr)
        return 1
    if not result.wasSuccessful():
        return 1
    if result.skipped and result.testsRun == 0:
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
