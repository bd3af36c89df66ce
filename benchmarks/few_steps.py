"""Train COV-19Net for a few steps in a process of its own, which memory.py and compile.py measure from outside.

    python -m benchmarks.few_steps minicnn --steps 50 --threads 2

Without steps it only imports and builds. Prints one line of JSON: seconds to build, of the first and of the last step.
"""

import argparse
import json
import time

from benchmarks.measure import settle


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    start = time.perf_counter()
    settle(chosen.threads)
    from benchmarks.networks import COV19NET, noise
    from benchmarks.peers import build

    peers, absent = build([chosen.name], COV19NET, *noise(COV19NET, 32), 32, chosen.threads)
    if absent:
        raise SystemExit(absent[chosen.name])
    times = [time.perf_counter() - start]
    for _ in range(chosen.steps):
        begun = time.perf_counter()
        peers[chosen.name].train()
        times.append(time.perf_counter() - begun)
    print(json.dumps({"build": times[0], "first": times[1:][0] if chosen.steps else None, "last": times[-1]}))


if __name__ == "__main__":
    main()
