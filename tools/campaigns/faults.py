#!/usr/bin/env python3
"""Lets the calls of faq-train and faq-eval on their files fail, one after the other, in every way each can.

  tools/campaigns/faults.py [--sample N] [--only SCENARIO] [--jobs 2] [--seed 1]

A library that is preloaded (faults.c) counts the calls of a run on its data, weights, options and output folder. Then the run
is repeated once for each call and each failure. Without --sample all of them fail, which takes hours; with it, N of each call
on each kind of file with each failure. What must hold:

- The program ends within a minute: with 0 only if the result is that of the undisturbed run, else with 74, or with 71, 66 or 65
  where the table below says so. Never with 70, and never by a signal.
- Every checkpoint and network in the output folder is whole, those of before included, and no temporary file is left.
- Undisturbed and with `--resume auto` the run then ends with the bits of a run that was never disturbed.
"""
import argparse
import concurrent.futures
import errno
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import runs

SPACE = ("ENOSPC", "EIO", "EDQUOT")
# What can happen to a call. "+": to all such calls from then on.
FAILURES = {
    "open": (*SPACE, "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EINTR", "EMFILE+", "kill"),
    "read": ("EIO", "ENOMEM", "EINTR", "short", "none", "EIO+"),
    "pread": ("EIO", "ENOMEM", "EINTR", "short", "none", "EIO+"),
    "write": (*SPACE, "EFBIG", "EINTR", "short", "none", "ENOSPC+", "kill"),
    "pwrite": (*SPACE, "EFBIG", "EINTR", "short", "none", "ENOSPC+", "kill"),
    "writev": (*SPACE, "EFBIG", "EINTR", "short", "none", "ENOSPC+", "kill"),
    "fsync": (*SPACE, "EIO+", "kill"),
    "fdatasync": (*SPACE, "EIO+", "kill"),
    "close": (*SPACE, "EINTR", "kill"),
    "rename": (*SPACE, "EACCES", "ENOMEM", "EIO+", "kill"),
    "link": (*SPACE, "EACCES", "ENOMEM", "kill"),
    "unlink": ("EIO", "EACCES", "ENOMEM", "kill"),
    "mkdir": (*SPACE, "EACCES", "ENOMEM", "kill"),
    "stat": ("EIO", "EACCES", "ENOMEM"),
    "fstat": ("EIO", "ENOMEM"),
    "access": ("EIO", "EACCES", "ENOMEM"),
    "lseek": ("EIO",),
    "ftruncate": ("EIO", "EINTR", "kill"),
    "mmap": ("ENOMEM", "EACCES"),
    "flock": ("EINTR", "ENOLCK", "EIO"),
    "opendir": ("EIO", "EMFILE", "ENOMEM", "EACCES", "EINTR"),
    "readdir": ("EIO",),
    "closedir": ("EIO",),
}
# After these a call is repeated, or has done all that it should: the run ends as if nothing had been.
HARMLESS = {("read", "EINTR"), ("pread", "EINTR"), ("write", "EINTR"), ("pwrite", "EINTR"), ("writev", "EINTR"),
            ("read", "short"), ("pread", "short"), ("write", "short"), ("pwrite", "short"), ("writev", "short"),
            ("close", "EINTR")}
# What is written and then lost must be noticed.
FATAL = {(call, failure) for call in ("write", "pwrite", "writev", "fsync", "fdatasync", "rename")
         for failure in (*SPACE, "ENOSPC+", "EIO+")}


def codes_for(call, failure, path_is_output):
    """The exit codes that are right, besides 0 with the right result."""
    if (call, failure) in HARMLESS:
        return set()
    if failure == "kill":
        return {-9}
    right = {74}
    if failure == "ENOMEM":
        right.add(71)
    if failure == "EACCES" and not path_is_output:
        right.add(66)
    if failure == "none" and call in ("read", "pread"):
        right.add(65)  # the file ends too early
    return right


class Scenario:
    """What is run, in a folder of its own which holds all its files: run is the output folder, data and weights beside it."""

    def __init__(self, name, program, words, prepare=None):
        self.name, self.program, self.words, self.prepare = name, program, words, prepare

    def trains(self):
        return self.program == runs.TRAIN


TRAINING = ["-c", "options.json", "--output-dir", "run", "--resume", "auto"]


def options_file(folder, row, *more):
    words = runs.options(row, ".") + list(more)
    words[words.index("--data-path") + 1] = "data"
    text, i = [], 0
    while i < len(words):  # option and value, or option=value, or an option alone
        name, _, value = words[i].lstrip("-").partition("=")
        i += 1
        if not value and i < len(words) and not words[i].startswith("-"):
            value, i = words[i], i + 1
        name = {"b": "batch-size", "j": "workers"}.get(name, name)
        text.append('"%s": "%s"' % (name, value))
    with open(os.path.join(folder, "options.json"), "w", encoding="utf-8") as file:
        file.write("{%s}\n" % ", ".join(text))


def started(kind, scheme, method, *more):
    """A run that has not begun."""
    def prepare(folder, shared):
        shutil.copytree(os.path.join(shared, kind), os.path.join(folder, "data"))
        options_file(folder, (scheme, method, kind), *more)
        if "weights.safetensors" in more:
            shutil.copy(os.path.join(shared, "teacher", "best.safetensors"), os.path.join(folder, "weights.safetensors"))
    return prepare


def half_done(kind, scheme, method, *more):
    """A run that was killed while it saved its fifth step: there are checkpoints, and a temporary file."""
    def prepare(folder, shared):
        started(kind, scheme, method, *more)(folder, shared)
        calls = Faulty(folder).calls(runs.TRAIN, TRAINING, expected=0)
        at = max(number for call, number, path in calls if call == "rename" and "checkpoint-5" in path)
        shutil.rmtree(os.path.join(folder, "run"))
        Faulty(folder).calls(runs.TRAIN, TRAINING, "rename:%d:kill" % at, expected=-9)
    return prepare


def finished(folder, shared):
    started("folder", "faq 4", "average")(folder, shared)
    Faulty(folder).calls(runs.TRAIN, TRAINING, expected=0)
    with open(os.path.join(folder, "names.txt"), "w", encoding="utf-8") as file:
        file.write("a\nb\nc\n")


SCENARIOS = [
    Scenario("begins", runs.TRAIN, TRAINING, started("folder", "faq 4", "average", "--weights", "weights.safetensors")),
    Scenario("goes on", runs.TRAIN, TRAINING, half_done("folder", "faq 4", "average")),
    Scenario("tar", runs.TRAIN, TRAINING, started("tar", "none", "plain")),
    Scenario("idx", runs.TRAIN, TRAINING, started("idx", "dfp ternary", "plain")),
    Scenario("cifar", runs.TRAIN, TRAINING, started("cifar", "none", "plain")),
    Scenario("evaluates", runs.EVAL, ["--weights", "run/integer.safetensors", "--data-path", "data", "--json"], finished),
    Scenario("predicts", runs.EVAL, ["--weights", "run/integer.safetensors", "--class-names", "names.txt", "--predict",
                                     "data/val/a/012.png", "data/val/b/013.png", "--json"], finished),
    Scenario("compares", runs.EVAL, ["--weights", "run/integer.safetensors", "--compare", "run/best.safetensors",
                                     "--data-path", "data", "--json"], finished),
    Scenario("exports", runs.EVAL, ["--weights", "run/last.safetensors", "--export", "run/exported.safetensors", "--json"],
             finished),
    Scenario("analyses", runs.EVAL, ["--weights", "run/best.safetensors", "--analyze", "cosine", "--baseline", "run/last.safetensors",
                                     "--output-dir", "run/analysis", "--json"], finished),
]


class Faulty:
    """Runs programs in a folder with the library preloaded."""
    LIBRARY = None

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.log = self.folder + ".calls"

    def environment(self, fault):
        named = {"LD_PRELOAD": self.LIBRARY, "FAQ_FAULTS_ROOT": self.folder, "FAQ_FAULTS_LOG": self.log}
        return {**named, **({"FAQ_FAULT": fault} if fault else {})}

    def run(self, program, words, fault=""):
        """(how it ended, whether the fault happened)"""
        if os.path.exists(self.log):
            os.remove(self.log)
        try:
            done = runs.run(program, words, self.folder, seconds=60, **self.environment(fault))
        except subprocess.TimeoutExpired:
            done = runs.Ended("still running after 60 s", "", "")
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        os.remove(self.log)
        return done, lines

    def calls(self, program, words, fault="", expected=0):
        done, lines = self.run(program, words, fault)
        if done.code != expected:
            raise SystemExit("%s: expected exit code %d, found %s: %s" % (self.folder, expected, done.code, done.last_line()))
        return [(call, int(number), path) for call, number, path in (line.lstrip("! ").split(" ", 2) for line in lines)]


def result_of(scenario, folder, done):
    """What a program that ended with 0 says."""
    return "" if scenario.trains() else re.sub(r'"[a-z_]*(per_s|seconds|bytes)":[\d.e+-]+,?', "", done.out)


def kind_of(path):
    """Files of one kind: those that a run treats alike."""
    path = re.sub(r"\.tmp\.\d+$", ".tmp", path)
    path = re.sub(r"^/data/(train|val)/[^/]*", r"/data/\1/CLASS", path)
    return re.sub(r"\d+", "N", path)


class Case:
    def __init__(self, scenario, call, number, path, failure):
        self.scenario, self.call, self.number, self.path, self.failure = scenario, call, number, path, failure

    def fault(self):
        what = self.failure.rstrip("+")
        what = str(getattr(errno, what)) if what.startswith("E") else what
        return "%s:%d%s:%s" % (self.call, self.number, "+" if self.failure.endswith("+") else "", what)

    def __str__(self):
        return "%s: %s of %s (call %d): %s" % (self.scenario.name, self.call, self.path, self.number, self.failure)


def wrong_with(case, template, whole, undisturbed, folder):
    """(what is wrong, exit code); "": nothing."""
    scenario = case.scenario
    shutil.copytree(template, folder)
    faulty = Faulty(folder)
    out = os.path.join(folder, "run")
    done, lines = faulty.run(scenario.program, scenario.words, case.fault())
    struck = [line for line in lines if line.startswith("! ")]
    if not struck:  # threads made the calls in another order
        return "", "not reached"
    path_is_output = "/run/" in struck[0] + "/" and scenario.trains()
    right = codes_for(case.call, case.failure, path_is_output)
    said = "exit code %s: %s" % (done.code, done.last_line())
    if done.code == 0:
        if (case.call, case.failure) in FATAL and path_is_output:
            return "exit code 0 although it was not written", 0
        if scenario.trains():
            difference = runs.difference(out, whole)
            if difference:
                return "exit code 0, and " + difference, 0
        elif result_of(scenario, folder, done) != undisturbed:
            return "exit code 0, and another result: " + done.out, 0
    elif done.code not in right:
        return said, done.code
    damage = runs.damaged(out)
    if damage:
        return "%s\n    %s" % (said, "; ".join(damage)), done.code
    before = runs.left_behind(os.path.join(template, "run"))  # by a run that was killed
    left = [name for name in runs.left_behind(out) if name not in before]
    if left and case.failure != "kill" and case.call != "unlink":
        return "%s\n    left behind: %s" % (said, left), done.code
    again = runs.run(scenario.program, scenario.words, folder)
    if again.code != 0:
        return "%s\n    again, undisturbed: exit code %s: %s" % (said, again.code, again.last_line()), done.code
    if scenario.trains():
        difference = runs.difference(out, whole)
        if difference or runs.left_behind(out):
            return "%s\n    again, undisturbed: %s%s" % (said, difference, runs.left_behind(out)), done.code
    elif result_of(scenario, folder, again) != undisturbed:
        return "%s\n    again, undisturbed: %s" % (said, again.out), done.code
    return "", done.code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default=os.path.join(runs.PROJECT, "build", "libfaq-faults.so"))
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="0: all")
    parser.add_argument("--most", type=int, default=0, metavar="N", help="of these, N drawn from the seed; 0: all")
    parser.add_argument("--only", default="", metavar="SCENARIO", help="; ".join(s.name for s in SCENARIOS))
    parser.add_argument("--fault", default="", help="repeats one: CALL:NUMBER:FAILURE, e.g. write:7:ENOSPC")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    Faulty.LIBRARY = os.path.abspath(given.library)
    if not os.path.exists(Faulty.LIBRARY):
        parser.error("no %s: cmake --build build --target faq-faults" % Faulty.LIBRARY)

    began = time.monotonic()
    draw = random.Random(given.seed)
    shared = os.path.realpath(tempfile.mkdtemp(prefix="faq-faults-"))
    runs.write_shared(shared)
    rows, failed = [], 0
    for scenario in SCENARIOS:
        if given.only not in ("", scenario.name):
            continue
        template, whole = (os.path.join(shared, "of-" + scenario.name.replace(" ", "-") + end) for end in ("", "-whole"))
        os.makedirs(template)
        scenario.prepare(template, shared)
        shutil.copytree(template, whole)
        calls = Faulty(whole).calls(scenario.program, scenario.words)
        done = runs.run(scenario.program, scenario.words, whole)
        undisturbed = result_of(scenario, whole, done)
        cases = choose(scenario, [(call, number, path.replace(whole, "", 1)) for call, number, path in calls], given, draw)
        codes, wrong = {}, 0

        def one(numbered):
            number, case = numbered
            folder = "%s-%d" % (template, number)
            try:
                text, code = wrong_with(case, template, os.path.join(whole, "run"), undisturbed, folder)
            except Exception as error:  # of this script: it must not hide behind the others
                text, code = repr(error), "?"
            if text:
                print("WRONG: %s: %s\n  kept: %s\n  again: %s --only %s --fault %s:%d:%s" %
                      (case, text, folder, sys.argv[0], shlex.quote(scenario.name), case.call, case.number, case.failure),
                      file=sys.stderr, flush=True)
            else:
                shutil.rmtree(folder)
            return bool(text), code

        with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
            for is_wrong, code in pool.map(one, enumerate(cases)):
                wrong += is_wrong
                codes[str(code)] = codes.get(str(code), 0) + 1
        failed += wrong
        rows.append((scenario.name, len(calls), len(cases), ", ".join("%s: %d" % pair for pair in sorted(codes.items())), wrong))
        if not wrong:
            shutil.rmtree(template)
            shutil.rmtree(whole)
    runs.print_table(["what", "calls on files", "failures", "exit codes", "wrong"], rows)
    print("%d failures, %d wrong, %.0f s" % (sum(row[2] for row in rows), failed, time.monotonic() - began))
    if failed:
        return 1
    shutil.rmtree(shared)
    return 0


def choose(scenario, calls, given, draw):
    if given.fault:
        call, number, failure = given.fault.split(":")
        path = next((path for name, k, path in calls if (name, k) == (call, int(number))), "?")
        return [Case(scenario, call, int(number), path, failure)]
    groups = {}
    for call, number, path in calls:
        for failure in FAILURES[call]:
            groups.setdefault((call, kind_of(path), failure), []).append(Case(scenario, call, number, path, failure))
    cases = []
    for group in groups.values():
        cases += draw.sample(group, min(given.sample or len(group), len(group)))
    return draw.sample(cases, min(given.most or len(cases), len(cases)))


if __name__ == "__main__":
    sys.exit(main())
