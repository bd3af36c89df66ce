"""ResNet-50 and VGG-19 at 224x224 beside PyTorch channels_last: prediction, a training step, peak memory.

    python -m benchmarks.published --threads 2 --rounds 9
    python -m benchmarks.published --only ResNet
    python -m benchmarks published                    # into results/ and RESULTS.md

takes about ten minutes. Each library has a process of its own, as in the suite, and predictions and the first loss are compared
before. One image is predicted, and eight; a step of training has eight. Memory is the largest that a process was which does
one of these alone, three times, from its start.
"""

import sys
from contextlib import ExitStack

from benchmarks.command import main
from benchmarks.contestant import Contestant, start
from benchmarks.measure import OURS
from benchmarks.networks import PUBLISHED
from benchmarks.report import absences, number, ratio, table, threads_in_words
from benchmarks.suite import TORCH, agree, in_turns, times

TITLE = "ResNet-50 and VGG-19"
THREADS = "all"


def arguments(parser):
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="networks with one of these in their names")


def run(options):
    found = {}
    for network in PUBLISHED.values():
        if any(text in network.name for text in options.only):
            print(f"  {network.name} ...", file=sys.stderr, flush=True)
            found[network.name] = measure(network, [name for name in (OURS, TORCH) if name not in options.without], options)
    return {"networks": found}


def measure(network, names, options):
    """Return what is measured of one network."""
    found, tasks = {"tasks": [], "memory": {}}, [*[("predict", n) for n in network.sizes], ("train", network.batch)]
    with ExitStack() as stack:
        contestants, found["absent"] = start(stack, names, network, options.threads)
        # Adam's first steps throw a network of so many weights far away, and each library elsewhere: the first loss is compared.
        found["difference"] = agree(network, contestants, found["absent"], steps=1)
        for task, n in tasks:
            found["tasks"].append((task, n, in_turns(task, n, contestants, found["absent"], options)))
        there = list(contestants)
    for task, n in tasks:
        found["memory"][f"{task} {n}"] = {name: peak(name, network, task, n, options.threads) for name in there}
    return found


def peak(name, network, task, n, threads):
    """Return the MB that a process had at most which does a task three times."""
    with Contestant(name, network.name, threads) as contestant:
        contestant.answer()
        contestant.values(task, n, 3)
        return contestant.memory()[1]


def report(results):
    text = ["Prediction, and a step of training with Adam; a ratio is PyTorch's time over minicnn's, its median over the rounds "
            "(quartiles), and that of the best times: above 1, minicnn is faster. Memory is the peak of a process that does "
            "this alone.\n"]
    for threads, result in results.items():
        lines = []
        for name, network in result["networks"].items():
            for task, n, (ours, *peers) in network["tasks"]:
                memory = [number(network["memory"][f"{task} {n}"].get(library, float("nan"))) for library in (OURS, TORCH)]
                of_peer = [times(peers[0]), ratio(peers[0]), f"{peers[0]['best_ratio']:.2f}"] if peers else [""] * 3
                lines.append([f"{name}, {'prediction' if task == 'predict' else 'training step'}, n = {n}", times(ours), *of_peer,
                              *memory])
        text += [f"### {threads_in_words(threads).capitalize()}\n",
                 table(["", "minicnn, ms (best)", f"{TORCH}, ms (best)", "ratio", "of the best times", "minicnn, MB", f"{TORCH}, MB"],
                       lines)]
    return "\n".join([*text, absences({name: why for result in results.values() for network in result["networks"].values()
                                       for name, why in network["absent"].items()})])


if __name__ == "__main__":
    main(sys.modules[__name__])
