#!/usr/bin/env python3
"""Ends runs of faq-train at random moments, by SIGKILL and by the signals that schedulers send, and lets them go on.

  tools/campaigns/kill.py [--kills 1000] [--signals 300] [--jobs 2] [--seed 1] [--only CHAIN]

A chain is one run of a scheme and a method (the table in runs.py) that is ended one to four times and resumed with
`--resume auto` until it ends by itself. After every end each checkpoint must be whole. At the end the tensors, the lines of
metrics.jsonl and the rows of summary.csv must be those of the uninterrupted run, and no temporary file may be left.
A signal that the process catches must end it with 75, or with 0 if it had finished. A failure keeps its folder and prints the
command that repeats the chain. The moments are drawn from the seed; what a process does at that moment is the machine's.
"""
import argparse
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import runs

POLITE = ("TERM", "USR1", "HUP", "XCPU", "USR2", "QUIT", "ALRM", "PWR")


class Failure(Exception):
    pass


def catches(process, number):
    """Whether the program has installed its handler. Before that, while its libraries are loaded, it cannot."""
    try:
        with open("/proc/%d/status" % process.pid, encoding="ascii") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


class Campaign:
    def __init__(self, shared, seed, share_of_kills, signals):
        self.shared, self.seed, self.share, self.signals = shared, seed, share_of_kills, signals
        self.rows = runs.table()
        self.whole = {}  # row: (folder of the uninterrupted run, its seconds)

    def baseline(self, row):
        folder = os.path.join(self.shared, "whole-%d" % self.rows.index(row))
        began = time.monotonic()
        done = runs.run(runs.TRAIN, runs.options(row, self.shared) + ["--output-dir", folder])
        if done.code != 0:
            raise SystemExit("%s: the uninterrupted run ended with %d: %s" % (row, done.code, done.last_line()))
        self.whole[row] = folder, time.monotonic() - began

    def chain(self, number, folder):
        """{what: how often}. Throws Failure."""
        draw = random.Random("%d-%d" % (self.seed, number))
        row = self.rows[number % len(self.rows)]
        whole, seconds = self.whole[row]
        out = os.path.join(folder, "run")
        command = [runs.TRAIN, *runs.options(row, self.shared), "--output-dir", out, "--resume", "auto"]
        counts = {"SIGKILL": 0, "before handlers": 0, "chains": 1, **dict.fromkeys(self.signals, 0)}
        for _ in range(draw.randint(1, 4)):
            name = "KILL" if draw.random() < self.share else draw.choice(self.signals)
            moment = draw.uniform(0, 1.1 * seconds)
            code, caught = self.interrupted(command, folder, name, moment)
            if code is None:  # it had ended
                break
            if name == "KILL":
                counts["SIGKILL"] += 1
            elif not caught and code == -signal.Signals["SIG" + name]:
                counts["before handlers"] += 1
            else:
                counts[name] += 1
                if code not in (0, 75):
                    raise Failure("%s, SIG%s after %.3f s: exit code %d: %s" % (row, name, moment, code, self.said(folder)))
            damage = runs.damaged(out)
            if damage:
                raise Failure("%s, SIG%s after %.3f s: %s" % (row, name, moment, "; ".join(damage)))
        done = runs.run(runs.TRAIN, command[1:], seconds=600)
        if done.code != 0:
            raise Failure("%s: resumed, it ends with %d: %s" % (row, done.code, done.last_line()))
        difference = runs.difference(out, whole)
        if difference:
            raise Failure("%s: %s" % (row, difference))
        if runs.left_behind(out):
            raise Failure("%s: left behind: %s" % (row, runs.left_behind(out)))
        return counts

    def interrupted(self, command, folder, name, moment):
        """(exit code or minus a signal, whether the program caught the signal); (None, False): it ended before."""
        with open(os.path.join(folder, "said"), "ab") as said:
            process = subprocess.Popen(command, env=runs.ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            try:
                code = process.wait(moment)
                if code != 0:
                    raise Failure("by itself it ends with %d: %s" % (code, self.said(folder)))
                return None, False
            except subprocess.TimeoutExpired:
                pass
            number = signal.Signals["SIG" + name]
            caught = catches(process, number)
            process.send_signal(number)
            try:
                return process.wait(120), caught
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Failure("SIG%s after %.3f s: still running after 120 s" % (name, moment)) from None

    @staticmethod
    def said(folder):
        with open(os.path.join(folder, "said"), encoding="utf-8", errors="replace") as file:
            return (file.read().strip().splitlines() or [""])[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--signals", type=int, default=300)
    parser.add_argument("--with", dest="names", default=",".join(POLITE), help="the signals besides SIGKILL: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="CHAIN", help="repeats one chain")
    given = parser.parse_args()

    began = time.monotonic()
    shared = tempfile.mkdtemp(prefix="faq-kill-")
    runs.write_shared(shared)
    campaign = Campaign(shared, given.seed, given.kills / max(1, given.kills + given.signals), given.names.split(","))
    # Of a short campaign some rows only; which, the seed says.
    random.Random(given.seed).shuffle(campaign.rows)
    total, failures, number = {}, [], 0

    def one(chain):
        row = campaign.rows[chain % len(campaign.rows)]
        folder = os.path.join(shared, "chain-%d" % chain)
        os.makedirs(folder)
        if row not in campaign.whole:
            campaign.baseline(row)
        try:
            counts = campaign.chain(chain, folder)
            shutil.rmtree(folder)
            return counts
        except Failure as failure:
            print("FAILED: chain %d: %s\n  kept: %s\n  again: %s --seed %d --kills %d --signals %d --with %s --only %d" %
                  (chain, failure, folder, sys.argv[0], given.seed, given.kills, given.signals, given.names, chain),
                  file=sys.stderr, flush=True)
            return failure

    def enough():
        return total.get("SIGKILL", 0) >= given.kills and \
            sum(total.get(name, 0) for name in campaign.signals) >= given.signals

    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        chains = range(given.only, given.only + 1) if given.only is not None else range(10**9)
        running = set()
        while True:
            while len(running) < given.jobs and number < len(chains) and not enough() and len(failures) < 20:
                running.add(pool.submit(one, chains[number]))
                number += 1
            if not running:
                break
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for result in (future.result() for future in done):
                if isinstance(result, Failure):
                    failures.append(result)
                    continue
                for name, count in result.items():
                    total[name] = total.get(name, 0) + count

    runs.print_table(["what", "number"], [
        ("schemes × methods × data", "%d of %d" % (len(campaign.whole), len(campaign.rows))),
        ("runs that were ended and resumed until they ended", total.get("chains", 0)),
        ("SIGKILL", total.get("SIGKILL", 0)),
        *[("SIG" + name, total.get(name, 0)) for name in campaign.signals],
        ("signals before the program's first instruction, which end it", total.get("before handlers", 0)),
        ("failures", len(failures)),
        ("seconds", "%.0f" % (time.monotonic() - began)),
    ])
    if failures:
        print("the folders are kept in %s" % shared, file=sys.stderr)
        return 1
    shutil.rmtree(shared)
    return 0


if __name__ == "__main__":
    sys.exit(main())
