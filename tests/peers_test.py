#!/usr/bin/env python3
"""Tests of tools/peers without what they need: it is reported as not installed, and nothing ends in a traceback."""
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

PEERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools", "peers")
BENCH = """#!/bin/sh
# Ends badly if the folder after --data-path is not there.
last=
for word; do
  if [ "$last" = --data-path ] && [ ! -d "$word" ]; then echo "$word: not a folder" >&2; exit 66; fi
  last=$word
done
case " $* " in
  *" --version "*) echo faq 0 ;;
  *) echo '{"images_per_s": 12.5, "peak_bytes": 1}' ;;
esac
"""


@unittest.skipIf(sys.version_info < (3, 11), "tools/peers needs Python 3.11")
class WithoutPeers(unittest.TestCase):
    def run_program(self, name, *arguments):
        # -S: without the packages that are installed
        return subprocess.run([sys.executable, "-S", "-B", os.path.join(PEERS, name), *arguments],
                              capture_output=True, text=True)

    def test_self_test(self):
        done = self.run_program("compare.py", "--self-test")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("skipped models.py: not installed: torch\n", done.stderr)
        self.assertIn("skipped images.py: not installed: numpy, PIL\n", done.stderr)

    def test_not_installed(self):
        for name, arguments, package in [("zoo.py", [], "torch"), ("models.py", ["--self-test"], "torch"),
                                         ("layers.py", ["--faq-bench", "x"], "torch"),
                                         ("tensorboard_events.py", ["run"], "tensorboard")]:
            with self.subTest(name):
                done = self.run_program(name, *arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn("%s: not installed: %s" % (name, package), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_modes(self):
        with tempfile.TemporaryDirectory() as folder:
            bench = os.path.join(folder, "faq-bench")
            with open(bench, "w", encoding="utf-8") as file:
                file.write(BENCH)
            os.chmod(bench, stat.S_IRWXU)
            pytorch = {"pytorch-fp32", "pytorch-fp32-compiled", "pytorch-bf16", "pytorch-bf16-compiled", "pytorch-qat"}
            table = [("load", ["--data-path", folder], {"pillow"}), ("train", [], pytorch),
                     ("train", ["--grad-dtype", "s8"], pytorch),
                     ("train", ["--bits", "32", "--grad-dtype", "bf16", "--float-dtype", "bf16"], pytorch),
                     ("infer", [], {"pytorch-int8", "onnxruntime-int8", "openvino-int8"})]
            for mode, more, peers in table:
                with self.subTest(mode):
                    done = self.run_program("compare.py", "--faq-bench", bench, "--mode", mode, "--rounds", "1",
                                            "--busy", "--json", *more)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    report = json.loads(done.stdout)
                    self.assertEqual(set(report["peer_settings"]), {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"})
                    self.assertEqual(set(report["skipped"]), peers)
                    self.assertTrue(all(why.startswith("not installed: ") for why in report["skipped"].values()))
                    self.assertTrue(all(row["name"].startswith("faq") for row in report["variants"]))
                    self.assertEqual(report["float_dtype"], "bf16" if "--float-dtype" in more else None)
            for more in (["--float-dtype", "bf16"], ["--bits", "32", "--float-dtype", "half"]):
                with self.subTest(more):
                    done = self.run_program("compare.py", "--faq-bench", bench, "--mode", "train", *more)
                    self.assertEqual(done.returncode, 2)
                    self.assertIn("--float-dtype", done.stderr)


if __name__ == "__main__":
    unittest.main()
