#!/usr/bin/env python3
"""Reads the event files of a run of faq-train --tensorboard with the tensorboard package, and compares them with the run's own
metrics.jsonl. Needs: pip install tensorboard

  tensorboard_events.py RUN
"""
import json
import math
import os
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
except ImportError as error:
    print("tensorboard_events.py: not installed: %s" % (error.name or "tensorboard").split(".")[0], file=sys.stderr)
    sys.exit(1)

NAMES = {"train_loss": "train_loss", "train_top1": "train_top1", "lr": "lr", "val_loss": "eval_loss", "top1": "eval_top1",
         "top5": "eval_top5"}


def main(folder):
    files = sorted(name for name in os.listdir(folder) if "tfevents" in name)
    # Every frame with its checksums: a reader of a wrong one raises.
    frames = sum(1 for name in files for _ in RawEventFileLoader(os.path.join(folder, name)).Load())
    events = EventAccumulator(folder, size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags["scalars"]}
    compared = 0
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            of_epoch = "val_loss" in line
            for ours, theirs in NAMES.items():
                if ours not in line or of_epoch != theirs.startswith("eval_"):
                    continue
                read = scalars[theirs][line["step"]]
                if not math.isclose(read, line[ours], rel_tol=1e-6, abs_tol=1e-9):
                    sys.exit("%s at step %d: %r, the run's own %r" % (theirs, line["step"], read, line[ours]))
                compared += 1
    buckets = 0
    for tag in tags["histograms"]:
        for event in events.Histograms(tag):
            h = event.histogram_value
            if sum(h.bucket) != h.num or len(h.bucket) != len(h.bucket_limit):
                sys.exit("%s at step %d: %d buckets hold %r of %r" % (tag, event.step, len(h.bucket), sum(h.bucket), h.num))
            buckets += len(h.bucket)
    print("%d files, %d frames: %d scalars as in metrics.jsonl, %d histograms of %d buckets" %
          (len(files), frames, compared, len(tags["histograms"]), buckets))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
