#!/usr/bin/env python3
"""What the programs say of their options in other forms than --help: completion for bash and man pages, and docs/commands.md.

FAQ_BIN names the folder of the programs.
"""
import functools
import os
import re
import shutil
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = ("faq-train", "faq-eval", "faq-export", "faq-report", "faq-bench")


def said(program, *arguments):
    return subprocess.run([os.path.join(os.environ["FAQ_BIN"], program), *arguments], capture_output=True, text=True,
                          check=False)


@functools.lru_cache(maxsize=None)
def completion_of(program):
    return said(program, "--help=bash").stdout


def options_of_help(program):
    """Every option that --help begins a line with: {"--bits", "-b", …}."""
    found = set()
    for line in said(program, "--help").stdout.splitlines():
        match = re.match(r"  (?:(-\w)(?:, | )|    )(--[\w-]+)?", line)
        if match:
            found.update(name for name in match.groups() if name)
    return found


def completed(program, *words):
    """What bash offers after these words, the last of which is unfinished."""
    script = completion_of(program)
    script += 'compopt() { :; }\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n_%s\nprintf "%%s\\n" "${COMPREPLY[@]}"\n' % (
        program.replace("-", "_"))
    done = subprocess.run(["bash", "-eu", "-c", script, "bash", program, *words], capture_output=True, text=True, check=False,
                          cwd=os.path.join(ROOT, "tools"))
    if done.returncode or done.stderr:
        raise AssertionError(done.stderr)
    return done.stdout.split()


@unittest.skipIf(shutil.which("bash") is None, "no bash")
class Completion(unittest.TestCase):
    def test_every_option(self):
        for program in PROGRAMS:
            with self.subTest(program):
                options = options_of_help(program)
                self.assertGreater(len(options), 5)
                self.assertIn("--help", options)
                self.assertEqual(set(completed(program, "-")), options)

    def test_values(self):
        folder = os.path.join("packages", "")
        table = [
            (("faq-train", "--sche"), ["--scheme"]),
            (("faq-train", "--scheme", ""), ["none", "faq", "dfp", "dorefa", "lsq"]),
            (("faq-train", "--scheme", "d"), ["dfp", "dorefa"]),
            (("faq-train", "--scheme", "="), ["none", "faq", "dfp", "dorefa", "lsq"]),
            (("faq-train", "--scheme", "=", "dor"), ["dorefa"]),
            (("faq-train", "--preset", "faq"), ["faq-8bit", "faq-4bit"]),
            (("faq-train", "--model", "resnet1"), ["resnet110", "resnet18", "resnet101", "resnet152"]),
            (("faq-train", "--teacher-model", "inc"), ["inception_v3"]),
            (("faq-train", "--weight-step", ""), ["mse", "max", "mean"]),
            (("faq-train", "--stages", "w"), ["weights,both"]),
            (("faq-train", "--cluster-size", ""), ["all"]),
            (("faq-train", "--resume", "aut"), ["auto"]),
            (("faq-train", "--epochs", ""), []),
            (("faq-train", "-b", ""), []),
            (("faq-train", "--help", "=", ""), ["text", "man", "bash"]),
            # An option that may stand alone has a value behind = only.
            (("faq-train", "--model-ema", "--preset"), ["--preset"]),
            (("faq-train", "--allow-empty-classes", "=", "t"), ["true"]),
            (("faq-train", "--weights", "quickstart/res"), ["quickstart/resnet20-fashion-mnist.safetensors"]),
            (("faq-train", "--output-dir", "pack"), [folder.rstrip("/")]),
            (("faq-train", "--output-dir", "convert"), []),
            (("faq-eval", "--split", ""), ["train", "val", "test"]),
            (("faq-eval", "--analyze", "co"), ["cosine"]),
            (("faq-eval", "--predict", "a.png", "conv"), ["convert_torch.py"]),
            (("faq-eval", "--class-order", ""), ["name", "natural"]),
            (("faq-export", "conv"), ["convert_torch.py"]),
            (("faq-export", "--c", "pack"), ["packages"]),
            (("faq-export", "-c", "pack"), ["packages"]),
            (("faq-bench", "--mode", ""), ["train", "infer", "load"]),
        ]
        for words, expected in table:
            with self.subTest(words):
                self.assertEqual(sorted(completed(*words)), sorted(expected))

    def test_values_are_those_that_the_programs_know(self):
        """A program that is given another value names those there are: all that are completed, and no other."""
        own = [("faq-eval", "--split"), ("faq-eval", "--analyze"), ("faq-bench", "--mode"), ("faq-bench", "--model"),
               ("faq-train", "--help")]
        shared = "--scheme --calibration --weight-scale --equalize --ternary-scale --stages --distill --engine --grad-dtype --float-dtype " \
                 "--allreduce --lr-scheduler --dataset --class-order --augment --allow-empty-classes --preset".split()
        for program, option in own + [("faq-train", option) for option in shared]:
            with self.subTest((program, option)):
                offered = completed(program, option, "=", "")
                done = said(program, option + "=zzz")
                self.assertEqual(done.returncode, 64, done.stderr)
                if option == "--preset":  # the nearest is named alone
                    self.assertIn(re.search(r"did you mean '(.*)'", done.stderr).group(1), offered)
                    continue
                expected = re.search(r"(?:expected|have:)( one of)? (.*)", done.stderr).group(2)
                expected = re.sub(r"; did you mean.*|\)$", "", expected)
                self.assertEqual(sorted(re.split(r", or |, | or ", expected)),
                                 sorted(re.split(r", or |, | or ", ", ".join(offered))))


class ManPage(unittest.TestCase):
    def test_every_option(self):
        for program in PROGRAMS:
            with self.subTest(program):
                page = said(program, "--help=man").stdout
                named = set()
                for line in re.findall(r"^\.TP\n(\\fB.*)$", page, re.MULTILINE):
                    named.update(name.replace("\\-", "-") for name in re.findall(r"\\fB(\\-.*?)\\fR", line))
                self.assertEqual(named, options_of_help(program))
                for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
                    self.assertIn("\n.SH %s\n" % section, page)
                # Only requests begin with a dot or a quote.
                for line in page.splitlines():
                    self.assertRegex(line, r"^(\.(TH|SH|SS|TP|\\\")|[^.'])")

    def test_exit_codes(self):
        with open(os.path.join(ROOT, "docs", "commands.md"), encoding="utf-8") as file:
            table = file.read().split("## Exit codes", 1)[1]
        codes = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
        page = said("faq-train", "--help=man").stdout.split(".SH EXIT STATUS\n", 1)[1]
        self.assertEqual(re.findall(r"^\.TP\n(\d+)$", page, re.MULTILINE), codes)

    @unittest.skipIf(shutil.which("man") is None, "no man")
    def test_man_has_nothing_to_say(self):
        for program in PROGRAMS:
            with self.subTest(program):
                done = subprocess.run(["man", "--warnings", "-l", "-"], input=said(program, "--help=man").stdout, text=True,
                                      capture_output=True, check=False,
                                      env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFSEQ": ""})
                self.assertEqual((done.returncode, done.stderr), (0, ""))


class Docs(unittest.TestCase):
    def test_commands_name_every_option(self):
        with open(os.path.join(ROOT, "docs", "commands.md"), encoding="utf-8") as file:
            named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", file.read()))
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertEqual(sorted(options_of_help(program) - named), [])


if __name__ == "__main__":
    unittest.main()
