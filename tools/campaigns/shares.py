"""Programs of campaigns that take --seed, --first and --count, and end with a line of JSON: several at a time, each with a share of the cases."""
import collections
import json
import subprocess


def start(program, options, before=(), environment=None):
    return subprocess.Popen([*before, program, *map(str, options)], stdout=subprocess.PIPE, text=True, env=environment)


def result_of(process):
    """What the program says at its end. Exit codes other than 0 and 1, which is a finding, end the campaign."""
    out, _ = process.communicate()
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(process.args)} ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def run(program, options, count, jobs, before=(), environment=None, same=()):
    """The sums of the shares' figures; those called `same` are no sums."""
    share = -(-count // jobs)
    processes = [start(program, [*options, "--first", first, "--count", min(share, count - first)], before, environment)
                 for first in range(0, count, share)]
    total, constant = collections.Counter(), {}
    for process in processes:
        result = result_of(process)
        constant.update({name: result.pop(name) for name in same})
        total.update(result)
    return {**constant, **total}
