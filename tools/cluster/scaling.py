#!/usr/bin/env python3
"""How a data-parallel run scales: computed, not measured. Needs nothing but Python.

  scaling.py                     the tables of docs/cluster.md: efficiency from 2 to 1024 nodes
  scaling.py --replay FILE …     what waiting for the slowest rank costs, from step times that were measured

The model. A node computes `images` images in images ÷ rate seconds. The ranks then add their gradients, which travel
in buckets: the first of 1 MB, the others of 25 MB. A bucket can leave when the last shard's backward pass has produced
it; gradients appear evenly over that pass. Buckets travel one after the other. One bucket of b bytes takes

  within a node of R ranks:    2·(R−1)/R · b / local rate    +  2·log2(R) · local latency
  between N nodes:             2·(N−1)/N · b / network rate  +  2·log2(N) · network latency

which is recursive halving and doubling, from neighbours outwards: R ranks of a node share its link, and each sends its
R-th part. What is not done when the backward pass ends is waited for. Efficiency is compute ÷ (compute + that wait):
the node's share of N times the rate of one process with all of its cores. Reading images, evaluation, checkpoints and
slow nodes are not in it (--replay has the latter).
"""
import argparse
import json
import math
import random
import sys

NODES = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
FIRST_BUCKET, BUCKET = 1e6, 25e6  # as faq-train has them
# Assumed, not measured: what a process gets out of such a link. Name, bytes/s, seconds for a message, bytes of a float.
NETWORKS = [
    ("10 Gbit/s Ethernet", 1.1e9, 15e-6, 4),
    ("10 Gbit/s Ethernet, `--allreduce s16`", 1.1e9, 15e-6, 2),
    ("25 Gbit/s Ethernet", 2.7e9, 15e-6, 4),
    ("100 Gbit/s Ethernet, TCP", 4e9, 15e-6, 4),
    ("100 Gbit/s InfiniBand or RoCE", 11e9, 2e-6, 4),
    ("200 Gbit/s InfiniBand", 20e9, 2e-6, 4),
]
SMALLEST_SHARD = 16  # images: below it batch-norm's statistics are too noisy


def buckets_of(total):
    """The sizes of the buckets of `total` bytes of f32."""
    sizes = [min(FIRST_BUCKET, total)]
    rest = total - sizes[0]
    while rest > 0:
        sizes.append(min(BUCKET, rest))
        rest -= sizes[-1]
    return sizes


def exchange_seconds(size, parts, rate, latency):
    """Adds `size` bytes over `parts` and gives the sum to all."""
    if parts == 1:
        return 0.0
    return 2 * (parts - 1) / parts * size / rate + 2 * math.log2(parts) * latency


def exposed_seconds(ready, cost):
    """How long buckets go on travelling after the last was ready, one after the other."""
    free = 0.0
    for when, seconds in zip(ready, cost):
        free = max(free, when) + seconds
    return free - ready[-1]


def efficiency(model, nodes, images, network):
    """Of `nodes` nodes with `images` images each per step."""
    _, rate, latency, width = network
    seconds = images / (model.images_per_second / model.measured_cores * model.cores * model.node_share)
    backward = seconds * model.backward_share / model.shards_per_rank
    total = 4 * model.parameters
    ready, cost, produced = [], [], 0.0
    for size in buckets_of(total):
        produced += size
        ready.append(backward * produced / total)
        travels = size * width / 4
        cost.append(exchange_seconds(travels, model.ranks_per_node, model.local_rate, model.local_latency) +
                    exchange_seconds(travels, nodes, rate, latency))
    return seconds / (seconds + exposed_seconds(ready, cost))


def table(model, images, limit=None):
    """Markdown. With a `limit` of the global batch nodes have fewer images, where there are many of them."""
    shards = model.ranks_per_node * model.shards_per_rank
    lines = ["| nodes | " + " | ".join(map(str, NODES)) + " |", "|---" * (len(NODES) + 1) + "|"]
    own = [images if limit is None else min(images, limit / nodes) for nodes in NODES]
    lines.append("| images of a node | " + " | ".join("%g" % count for count in own) + " |")
    for network in NETWORKS:
        cells = ["%.0f" % (100 * efficiency(model, nodes, count, network)) if count / shards >= SMALLEST_SHARD else "–"
                 for nodes, count in zip(NODES, own)]
        lines.append("| %s | %s |" % (network[0], " | ".join(cells)))
    return "\n".join(lines)


def step_seconds(lines):
    """The seconds of steps, from JSON lines with "step_seconds", from metrics.jsonl (--print-freq 1), or from numbers.

    metrics.jsonl has the images/s of the epoch up to a step. So step i of an epoch took i ÷ rate(i) − (i−1) ÷ rate(i−1),
    in units of a global batch. An epoch's first step is left out, as it warms up, and so is its last one, which may be smaller."""
    seconds, epoch = [], []

    def finish_epoch():
        seconds.extend(epoch[1:-1])
        epoch.clear()

    sum_before, last_epoch, last_step = 0.0, None, None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            row = json.loads(line)
            if isinstance(row, (int, float)):
                seconds.append(float(row))
                continue
            if "step_seconds" in row:
                seconds.append(float(row["step_seconds"]))
                continue
            if "train_loss" not in row or "val_loss" in row or "images_per_s" not in row:
                continue  # the line of an epoch
            step, rate, place = row["step"], float(row["images_per_s"]), row["epoch"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("line %d: expected seconds, or an object of metrics.jsonl: %s" % (number, error)) from None
        # "epoch" is where a step began: a whole number at an epoch's first step.
        if last_epoch is None or math.floor(place + 1e-9) != math.floor(last_epoch + 1e-9):
            finish_epoch()
            sum_before = 0.0
        elif step != last_step + 1:
            raise ValueError("line %d: step %d after step %d: expected --print-freq 1" % (number, step, last_step))
        elapsed = (len(epoch) + 1) / rate
        epoch.append(elapsed - sum_before)
        sum_before, last_epoch, last_step = elapsed, place, step
    finish_epoch()
    if len(seconds) < 2 or min(seconds) <= 0:
        raise ValueError("expected two or more step times above 0, got %d" % len(seconds))
    return seconds


def replay(seconds, ranks, steps, seed, stragglers=0, factor=1.0):
    """The share of its time that a rank computes, when every step takes as long as the slowest of `ranks` ranks.

    Each rank's time is drawn from `seconds`; the first `stragglers` ranks take `factor` times as long, always."""
    draw = random.Random(seed)
    worked = lasted = 0.0
    for _ in range(steps):
        times = draw.choices(seconds, k=ranks)
        times[:stragglers] = [factor * time for time in times[:stragglers]]
        worked += sum(times) / ranks
        lasted += max(times)
    return worked / lasted


def replay_table(seconds, options):
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    lines = ["%d steps: median %.4g, 99 %% below %.4g, longest %.4g times the median" %
             (len(ordered), 1, ordered[int(0.99 * (len(ordered) - 1))] / middle, ordered[-1] / middle), "",
             "| ranks | efficiency | lost to waiting | with %d slow %s (×%g) |" %
             (options.stragglers, "rank" if options.stragglers == 1 else "ranks", options.factor),
             "|---|---|---|---|"]
    for ranks in options.ranks:
        even = replay(seconds, ranks, options.steps, options.seed)
        slow = replay(seconds, ranks, options.steps, options.seed, options.stragglers, options.factor)
        lines.append("| %d | %.1f %% | %.1f %% | %.1f %% |" % (ranks, 100 * even, 100 - 100 * even, 100 * slow))
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_argument_group("the node")
    group.add_argument("--images-per-second", type=float, default=41,
                       help="of a training step, measured (41: ResNet-50 at 4 bits, batch 16, docs/performance.md)")
    group.add_argument("--measured-cores", type=float, default=2, help="that it was measured on (2)")
    group.add_argument("--cores", type=float, default=64, help="of a node (64: assumed)")
    group.add_argument("--node-share", type=float, default=0.75,
                       help="of the rate per core that is left when all cores work (0.75: assumed)")
    group.add_argument("--ranks-per-node", type=int, default=2, help="(2: one for each socket)")
    group.add_argument("--shards-per-rank", type=int, default=1, help="as --grad-accum-steps (1)")
    group.add_argument("--backward-share", type=float, default=0.66,
                       help="of a step (0.66: 275 of 415 ms of ResNet-50, by a clock that is not kept)")
    group.add_argument("--images", type=int, nargs="+", default=[64, 256], help="of a node, per step (64 256)")
    group.add_argument("--batch-limit", type=int, default=8192,
                       help="a last table, of a global batch of at most so many images (8192); 0: none")
    group = parser.add_argument_group("the exchange")
    group.add_argument("--parameters", type=float, default=25.56e6, help="of the network (25.56e6: ResNet-50)")
    group.add_argument("--local-rate", type=float, default=1.3e9,
                       help="bytes/s between ranks of a node (1.3e9: faq-exchange-bench 102 with 2 ranks took 76 ms on 2 cores)")
    group.add_argument("--local-latency", type=float, default=2e-6, help="seconds (2e-6: assumed)")
    group = parser.add_argument_group("the replay")
    group.add_argument("--replay", nargs="+", metavar="FILE", help="step times: metrics.jsonl of a run of one process with "
                       "--print-freq 1, JSON lines with step_seconds, or one number of seconds a line")
    group.add_argument("--ranks", type=int, nargs="+", default=[64, 256, 1024])
    group.add_argument("--steps", type=int, default=1000, help="that are simulated (1000)")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--stragglers", type=int, default=1, help="ranks that are always slow, in the last column (1)")
    group.add_argument("--factor", type=float, default=1.2, help="how slow (1.2)")
    options = parser.parse_args(arguments)
    for name in ("images_per_second", "measured_cores", "cores", "node_share", "ranks_per_node", "shards_per_rank",
                 "backward_share", "parameters", "local_rate", "steps"):
        if getattr(options, name) <= 0:
            parser.error("--%s: expected more than 0, got %g" % (name.replace("_", "-"), getattr(options, name)))
    return options


def main(arguments):
    options = parse(arguments)
    if options.replay:
        try:
            seconds = []
            for path in options.replay:
                with open(path, encoding="utf-8") as file:
                    seconds += step_seconds(file)
        except (OSError, ValueError) as error:
            print("scaling.py: %s: %s" % (path, error), file=sys.stderr)
            return 65
        print(replay_table(seconds, options))
        return 0
    for images in options.images:
        print("%d images of a node in each step; efficiency in %%:\n\n%s\n" % (images, table(options, images)))
    if options.batch_limit:
        print("A global batch of at most %d images:\n\n%s" %
              (options.batch_limit, table(options, options.images[-1], options.batch_limit)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
