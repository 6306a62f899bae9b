#!/usr/bin/env python3
"""docs/format.md is enough to compute what faq computes: an engine written from it makes the same bits.

  python3 -m unittest discover -s tests -p reference_engine_test.py    # FAQ_TRAIN, FAQ_EVAL, FAQ_EXPORT: programs elsewhere
"""
import json
import math
import os
import struct
import tempfile
import unittest

import integer_files
import reference_engine
from c_files import images_and_logits
from programs import output_of, program, quantized
from run_files import write_images
import read_integer  # tools/, which programs.py has put on the path

SIZE, CLASSES = 8, "abc"


class ReferenceEngine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="faq-engine-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def network(self, file):
        with open(file, "rb") as opened:
            return read_integer.Network(opened.read())

    def check_logits(self, file, count):
        """Of random images: those of faq, which stand in the test of the C export."""
        network = self.network(file)
        image = network.preprocessing
        output_of([program("faq-export"), file, "--c", self.path("c"), "--c-test", count])
        images, expected = images_and_logits(self.path("c", "network_test.c"), image["height"], image["width"],
                                             image["channels"])
        self.assertEqual(len(images), count)
        for pixels, logits in zip(images, expected):
            found = [struct.pack("<f", logit) for logit in reference_engine.run(network, pixels)[-1]]
            self.assertEqual(found, logits)

    def test_every_op(self):
        for seed in range(1, 6):
            for make in (integer_files.every_op, integer_files.without_mean):
                with self.subTest(make.__name__, seed=seed):
                    make(seed).write(self.path("file"))
                    self.check_logits(self.path("file"), 4)

    def test_schemes(self):
        write_images(self.path("data"), 6, 3, SIZE)
        for scheme in ("8 bits", "4 bits", "ternary clusters", "DoReFa, 2 bits"):
            with self.subTest(scheme):
                self.check_logits(quantized(self.path("data"), self.path("run " + scheme), "resnet20", SIZE, scheme), 2)

    def test_evaluation(self):
        """faq-eval's loss and top-1 are those of the engine's logits. The images are those of write_images."""
        write_images(self.path("data"), 6, 3, SIZE)
        file = quantized(self.path("data"), self.path("run"), "resnet20", SIZE, "4 bits")
        network = self.network(file)
        loss = right = 0
        for label in range(3):
            row = [[(11 * (6 + label) + 7 * (3 * x + c)) & 255 for c in range(3)] for x in range(SIZE)]
            logits = reference_engine.run(network, [row] * SIZE)[-1]
            loss += math.log(sum(map(math.exp, logits))) - logits[label]
            right += logits.index(max(logits)) == label
        found = json.loads(output_of([program("faq-eval"), "--weights", file, "--data-path", self.path("data"), "--json"]))
        self.assertEqual(found["images"], 3)
        self.assertAlmostEqual(found["loss"], loss / 3, delta=1e-5)
        self.assertAlmostEqual(found["top1"], 100 * right / 3, delta=1e-5)


if __name__ == "__main__":
    unittest.main()
