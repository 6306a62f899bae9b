#!/usr/bin/env python3
"""Which tensors the converter takes from a checkpoint, and their names. Needs no PyTorch."""
import unittest

from torch_files import FLOATS, ConverterTest, archive, dictionary, fixture, name_of, number, program, tensor, text
from torch_checkpoint import state_dicts


class StateDicts(ConverterTest):
    def test_training_checkpoint(self):
        self.write(fixture("checkpoint.pth"))
        code, errors = self.call(self.input, self.output)
        self.assertEqual(code, 0)
        self.assertIn("took model; --key takes model_ema", errors)
        self.assertEqual(set(self.read()), {"weight", "bias"})
        self.assertEqual(self.accept(fixture("checkpoint.pth"), "--key", "model_ema"),
                         {"weight": ["F32", [1, 2], "00" * 8]})

    def test_wrappers(self):
        table = [
            ("module.w", "w"), ("_orig_mod.w", "w"), ("module._orig_mod.w", "w"), ("_orig_mod.module.w", "w"),
            ("module.module.w", "w"), ("layer1._orig_mod.0.w", "layer1.0.w"), ("a.module.w", "a.module.w"),
            ("modules.w", "modules.w"), ("module", "module"), ("a._orig_mod._orig_mod.b._orig_mod.w", "a.b.w"),
            ("a._orig_mods.w", "a._orig_mods.w"),
        ]
        for name, expected in table:
            with self.subTest(name):
                made = self.accept(archive(program(dictionary((name, tensor()), ("n_averaged", tensor())))))
                self.assertEqual(list(made), [expected])

    def test_keys(self):
        good = dictionary(("w", tensor()))
        step = b"}" + number(0) + dictionary(("momentum_buffer", tensor())) + b"s"  # an optimizer's, under numbers
        only = program(dictionary(("acc", number(3)), ("mine", good), ("optimizer", dictionary(("state", step)))))
        deep = program(dictionary(("model", dictionary(("state_dict", good), ("n", number(1)))), ("a.b", good),
                                  ("a", dictionary(("c.d", good), ("b", b"N")))))
        circle = program(b"}q\x01" + text("net") + good + b"s" + text("self") + b"h\x01s")
        listed = program(b"](" + number(3) + good + dictionary(("x", number(1))) + b"e")
        expected = {"w": ["F32", [4], FLOATS.hex()]}
        self.refuse(archive(deep), '--key takes "a.b" or "model.state_dict" or "a.c.d"\n')
        for data, said in [(only, 'took "mine"'), (circle, ""), (listed, 'took "1"')]:
            self.assertEqual(self.accept(archive(data)), expected)
            self.assertIn(said, self.call(self.input, self.output)[1])
        self.assertEqual(self.accept(archive(circle), "--key", "net"), expected)
        self.assertEqual(self.accept(archive(listed), "--key", "1"), expected)
        for key in ("model.state_dict", "a.b", "a.c.d"):
            with self.subTest(key):
                self.assertEqual(self.accept(archive(deep), "--key", key), expected)
        for data, key, message in [(only, "acc", 'entry "acc" is not a state dict; --key takes "mine"'),
                                   (only, "model", 'there are: "acc", "mine", "optimizer"; --key takes "mine"'),
                                   (deep, "model", 'not a state dict; --key takes "a.b" or'),
                                   (deep, "model.w", 'no entry "model.w"'), (deep, ".", 'no entry "."')]:
            with self.subTest(key):
                self.write(archive(data))
                code, errors = self.call(self.input, self.output, "--key", key)
                self.assertEqual(code, 65, errors)
                self.assertIn(message, errors)

    def test_a_state_dict_that_is_not_whole(self):
        good = dictionary(("w", tensor()))
        bad = dictionary(("w", tensor()), ("x", name_of("my.net", "Thing") + b")R"))
        for entries, expected in [((("model", bad), ("model_ema", good)), 'in model: entry "x" is a my.net.Thing'),
                                  ((("model", dictionary(("w", tensor((5,))))), ("model_ema", good)),
                                   'in model: entry "w": _rebuild_tensor: element 4')]:
            self.refuse(archive(program(dictionary(*entries))), expected)
        self.assertEqual(list(self.accept(archive(program(dictionary(("model", bad)))), "--ignore-extra", "x")), ["w"])

    def test_prefixes(self):
        def made(*names):
            return archive(program(dictionary(*((name, tensor()) for name in names))))
        net = ("conv1.weight", "layer1.0.conv1.weight", "fc.weight")
        table = [
            ("a word", ["model.w", "model.v"], ["w", "v"]),
            ("two words", ["net.backbone.w", "net.backbone.v"], ["w", "v"]),
            ("not all", ["model.w", "v"], ["model.w", "v"]),
            ("not a word", ["features.0.weight", "features.0.bias"], ["features.0.weight", "features.0.bias"]),
            ("a network under any name", ["my.thing." + name for name in net], list(net)),
            ("and a head beside", ["backbone." + name for name in net[:2]] + ["fc.weight"], list(net)),
            ("wrapped", ["module.model." + name for name in net], list(net)),
            ("none", list(net), list(net)),
            ("a word without end", ["model." * 300_000 + name for name in "wv"],
             ["model." * (300_000 - state_dicts.MAX_KEY_DEPTH) + name for name in "wv"]),
            ("a wrapper without end", ["module." * 300_000 + name for name in "wv"], ["w", "v"]),
            ("a body under features", ["features.0.weight", "features.3.weight"],
             ["features.0.weight", "features.3.weight"]),
            ("counters", ["model.w", "n_averaged", "model.bn.num_batches_tracked"], ["w"]),
        ]
        for what, names, expected in table:
            with self.subTest(what):
                self.assertEqual(list(self.accept(made(*names))), expected)
                stripped = "stripped the prefix" in self.call(self.input, self.output)[1]
                self.assertEqual(stripped, what not in ("not all", "not a word", "none", "a body under features",
                                                          "a wrapper without end"))
        both = made(*("student." + name for name in net), *("teacher." + name for name in net))
        self.refuse(both, 'several networks, under "student.", "teacher.": --prefix takes one')
        for prefix in ("teacher", "teacher."):
            self.assertEqual(list(self.accept(both, "--prefix", prefix)), list(net))
        self.write(both)
        code, errors = self.call(self.input, self.output, "--prefix", "pupil")
        self.assertEqual((code, "they begin with" in errors), (65, True), errors)
        self.refuse(made("model." + net[0], "model." + net[1], net[2], "model." + net[2]), "two tensors get the name")

    def test_names_of_efficientnet_lite(self):
        def names_of(stages, spelled):
            """Of a network with so many blocks in each stage: as the port spells them, or as timm does."""
            parts = [("_conv_stem.weight", "conv_stem.weight"), ("_bn0.running_var", "bn1.running_var")]
            number = 0
            for stage, count in enumerate(stages):
                for block in range(count):
                    expands = stage > 0
                    pairs = (("_expand_conv", "conv_pw"), ("_bn0", "bn1"), ("_depthwise_conv", "conv_dw"), ("_bn1", "bn2"),
                             ("_project_conv", "conv_pwl"), ("_bn2", "bn3")) if expands else \
                        (("_depthwise_conv", "conv_dw"), ("_bn1", "bn1"), ("_project_conv", "conv_pw"), ("_bn2", "bn2"))
                    for theirs, ours in pairs:
                        parts.append(("_blocks.%d.%s.weight" % (number, theirs),
                                      "blocks.%d.%d.%s.weight" % (stage, block, ours)))
                    number += 1
            parts += [("_conv_head.weight", "conv_head.weight"), ("_bn1.bias", "bn2.bias"), ("_fc.weight", "classifier.weight")]
            return [theirs if spelled else ours for theirs, ours in parts]

        def made(names):
            return archive(program(dictionary(*((name, tensor()) for name in names))))

        for stages in ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1)):
            for prefix in ("", "module.", "backbone."):
                with self.subTest(stages=stages, prefix=prefix):
                    found = self.accept(made([prefix + name for name in names_of(stages, True)]))
                    self.assertEqual(list(found), names_of(stages, False))
                    self.assertIn("timm's names", self.call(self.input, self.output)[1])
            ours = names_of(stages, False)
            self.assertEqual(list(self.accept(made(ours))), ours)
        self.refuse(made(names_of((1, 2, 2, 3, 3, 4), True)), "an EfficientNet of 15 blocks")
        lite = names_of((1, 2, 2, 3, 3, 4, 1), True)
        self.refuse(made([name for name in lite if not name.startswith("_blocks.3.")]), "an EfficientNet of 15 blocks")
        # With squeeze-and-excitation it is another network, whose names are left to it.
        other = lite + ["_blocks.0._se_reduce.weight"]
        self.assertEqual(list(self.accept(made(other))), other)
        self.assertIn("squeeze-and-excitation", self.call(self.input, self.output)[1])

    def test_ignore_extra(self):
        data = archive(program(dictionary(("w", tensor()), ("head.a", tensor()), ("head.b", number(1)), ("x[0]", b"N"))))
        self.refuse(data, 'entry "head.b" is a int')
        self.assertEqual(list(self.accept(data, "--ignore-extra", "head.*", "--ignore-extra", "x[?]")), ["w"])
        code, errors = self.call(self.input, self.output, "--ignore-extra", "*")
        self.assertEqual(code, 65, errors)


if __name__ == "__main__":
    unittest.main()
