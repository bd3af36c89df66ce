"""The same accident for minicnn and for its peers: what is left afterwards?

    python -m benchmarks.reliability.peers full-disk "NumPy savez" --n 5

causes one kind of accident n times for one library, and prints the counts as JSON.
"""

import argparse
import importlib.util
import json

from benchmarks.measure import settle
from benchmarks.reliability.file_accidents import LIBRARIES, flips, full_disk, kills, truncations
from benchmarks.reliability.training_accidents import killed_in_epoch, steps, stopped_at_batch, threads

__all__ = ["FAULTS", "missing"]

FAULTS = {"full-disk": full_disk, "kill": kills, "flip": flips, "truncation": truncations, "threads": threads,
          "killed-in-epoch": killed_in_epoch, "stopped-at-batch": stopped_at_batch}
TRAINING = ("threads", "killed-in-epoch", "stopped-at-batch")       # the others are about files
_NEEDS = {"PyTorch": ("torch",), "PyTorch channels_last": ("torch",), "Keras": ("keras", "tensorflow"),
          "Keras on JAX": ("keras", "jax")}


def missing(name):
    """Return the modules that a peer needs and that are not installed."""
    needs = LIBRARIES[name].modules if name in LIBRARIES else _NEEDS.get(name, ())
    return [module for module in needs if importlib.util.find_spec(module) is None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("fault", choices=[*FAULTS, "steps"])
    parser.add_argument("name")
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.fault == "steps":
        return print(json.dumps(steps(chosen.name, chosen.n, chosen.threads)))
    if missing(chosen.name):
        raise SystemExit(f"{' and '.join(missing(chosen.name))} not installed")
    if chosen.fault != "threads":      # its children settle for themselves
        settle(1)
    subject = chosen.name if chosen.fault in TRAINING else LIBRARIES[chosen.name]
    print(json.dumps(FAULTS[chosen.fault](subject, chosen.n)))


if __name__ == "__main__":
    main()
