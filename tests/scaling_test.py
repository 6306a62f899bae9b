#!/usr/bin/env python3
"""Tests of tools/cluster/scaling.py: small cases worked out by hand, and the tables that docs/cluster.md quotes."""
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(PROJECT, "tools", "cluster", "scaling.py")
STEPS = os.path.join(PROJECT, "tools", "cluster", "step_seconds.txt")
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("scaling", SCRIPT)
scaling = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scaling)


class Model(unittest.TestCase):
    def test_buckets(self):
        table = [(0.5e6, [0.5e6]), (1e6, [1e6]), (26e6, [1e6, 25e6]), (30e6, [1e6, 25e6, 4e6])]
        for total, expected in table:
            self.assertEqual(scaling.buckets_of(total), expected)

    def test_exchange(self):
        # 100 MB over 2: half of it there and back; over 4: three quarters; and two messages, or four.
        table = [(1, 0.0), (2, 0.1 + 2e-3), (4, 0.15 + 4e-3)]
        for parts, expected in table:
            self.assertAlmostEqual(scaling.exchange_seconds(100e6, parts, 1e9, 1e-3), expected)

    def test_exposed(self):
        table = [
            ([10], [2], 2),             # one bucket: all of it comes after
            ([5, 10], [2, 1], 1),       # the first hides
            ([5, 10], [7, 1], 3),       # the first is done at 12, the second waits for it
            ([1, 2, 10], [1, 1, 0], 0),
        ]
        for ready, cost, expected in table:
            self.assertAlmostEqual(scaling.exposed_seconds(ready, cost), expected)

    def test_efficiency(self):
        # A node computes 100 images in 1 s, half of it backward. 26 MB: buckets of 1 and 25 MB, ready at 0.5/26 and at
        # 0.5 s. Over 2 nodes at 0.25 GB/s the last takes 0.1 s: 1 ÷ 1.1. In 16 bits it takes half: 1 ÷ 1.05.
        model = ["--images-per-second", "100", "--measured-cores", "1", "--cores", "1", "--node-share", "1",
                 "--ranks-per-node", "1", "--backward-share", "0.5", "--parameters", "6.5e6"]
        network = ("a", 0.25e9, 0.0, 4)
        options = scaling.parse(model)
        self.assertAlmostEqual(scaling.efficiency(options, 2, 100, network), 1 / 1.1)
        self.assertAlmostEqual(scaling.efficiency(options, 2, 100, ("a", 0.25e9, 0.0, 2)), 1 / 1.05)
        # Two ranks in the node exchange as much within it, at 1 GB/s: 0.025 s more.
        options = scaling.parse(model + ["--ranks-per-node", "2", "--local-rate", "1e9", "--local-latency", "0"])
        self.assertAlmostEqual(scaling.efficiency(options, 2, 100, network), 1 / 1.125)
        # With ten shards a rank the window is a tenth: the first bucket, 4 ms, still hides.
        options = scaling.parse(model + ["--shards-per-rank", "10"])
        self.assertAlmostEqual(scaling.efficiency(options, 2, 100, network), 1 / 1.1)

    def test_small_shards(self):
        options = scaling.parse(["--ranks-per-node", "2"])
        rows = scaling.table(options, 64, limit=512).split("\n")
        self.assertEqual(rows[2], "| images of a node | 64 | 64 | 64 | 32 | 16 | 8 | 4 | 2 | 1 | 0.5 |")
        self.assertEqual(rows[3].count("–"), 6)

    def test_refusals(self):
        for arguments in (["--cores", "0"], ["--local-rate", "-1"]):
            with self.assertRaises(SystemExit), redirect_stderr(io.StringIO()) as said:
                scaling.parse(arguments)
            self.assertIn("expected more than 0", said.getvalue())


class Replay(unittest.TestCase):
    def test_files(self):
        def metrics(step, epoch, rate):
            return json.dumps({"step": step, "epoch": epoch, "train_loss": 1.0, "images_per_s": rate})

        # Steps of 1, 2, 3, 1 units, then those of another epoch of 4 steps: 2, 1, 1, 1. First and last are left out.
        log = [metrics(1, 0.0, 1), metrics(2, 0.25, 2 / 3), metrics(3, 0.5, 3 / 6), metrics(4, 0.75, 4 / 7),
               json.dumps({"step": 4, "epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "images_per_s": 3}),
               metrics(5, 1.0, 1 / 2), metrics(6, 1.25, 2 / 3), metrics(7, 1.5, 3 / 4), metrics(8, 1.75, 4 / 5)]
        table = [
            (["# made up", "0.5", "", "1e-1"], [0.5, 0.1]),
            (['{"step_seconds": 0.5}', '{"step_seconds": 2}'], [0.5, 2]),
            (log, [2, 3, 1, 1]),
        ]
        for lines, expected in table:
            self.assertEqual(len(scaling.step_seconds(lines)), len(expected))
            for got, wanted in zip(scaling.step_seconds(lines), expected):
                self.assertAlmostEqual(got, wanted)
        for lines, message in [(["1"], "two or more"), (["1", "0"], "above 0"), (["1", "x"], "line 2: expected seconds"),
                               ([log[0], log[2]], "line 2: step 3 after step 1")]:
            with self.assertRaisesRegex(ValueError, message):
                scaling.step_seconds(lines)

    def test_efficiency(self):
        self.assertEqual(scaling.replay([2.0, 2.0], 1024, 3, seed=0), 1.0)
        self.assertEqual(scaling.replay([1.0, 3.0], 1, 100, seed=0), 1.0)  # one rank waits for nobody
        # Two ranks of 1 or 3: on average 2, and the slower 3 in three of four steps: 2 ÷ 2.5.
        self.assertAlmostEqual(scaling.replay([1.0, 3.0], 2, 20000, seed=0), 0.8, delta=0.01)
        # Of so many, one always takes 3.
        self.assertAlmostEqual(scaling.replay([1.0, 3.0], 1024, 50, seed=0), 2 / 3, delta=0.01)
        # One of four ranks takes twice as long: (3·1 + 2) ÷ 4 of the time that all take.
        self.assertEqual(scaling.replay([1.0, 1.0], 4, 5, seed=0, stragglers=1, factor=2.0), 1.25 / 2)
        self.assertEqual(scaling.replay([1.0, 2.0], 8, 9, seed=3), scaling.replay([1.0, 2.0], 8, 9, seed=3))


class Program(unittest.TestCase):
    def run_program(self, *arguments):
        return subprocess.run([sys.executable, "-B", SCRIPT, *arguments], capture_output=True, text=True,
                              env={**os.environ, "PYTHONIOENCODING": "utf-8"}, encoding="utf-8")

    def test_docs(self):
        with open(os.path.join(PROJECT, "docs", "cluster.md"), encoding="utf-8") as file:
            docs = file.read()
        for arguments in ([], ["--replay", STEPS]):
            done = self.run_program(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("\n" + done.stdout, docs, "docs/cluster.md: expected what scaling.py %s prints" %
                          " ".join(map(os.path.basename, arguments)))

    def test_bad_files(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = os.path.join(folder, "bad")
            with open(bad, "w", encoding="utf-8") as file:
                file.write("1\nhello\n")
            for path, message in [(bad, "line 2: expected seconds"), (os.path.join(folder, "none"), "No such file")]:
                done = self.run_program("--replay", path)
                self.assertEqual((done.returncode, done.stderr.count("\n")), (65, 1), done.stderr)
                self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main()
