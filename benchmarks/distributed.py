"""Training in several processes: what sharing a batch costs here, and what a formula says of many machines.

    python -m benchmarks.distributed --rounds 5

takes about a minute (two with all 20 rounds). A step of COV-19Net is timed in turns: in one process, and shared by 1 to 4 ranks,
more than this machine may have cores. Each group of ranks lives on between its turns. The times of one process with one
thread, the shortest for each batch, make the line that gives the cost of an image and of a step: numbers of the formula, which
distributed_model.py explains.
"""

import importlib.util
import itertools
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.command import main
from benchmarks.contestant import Contestant, Failed
from benchmarks.distributed_model import REACHED, Cost, cov19net, predictions, sent, step_seconds
from benchmarks.measure import Turns, compare, interleave, timed
from benchmarks.networks import COV19NET
from benchmarks.report import absences, number, ratio, table

TITLE = "Distributed training"
THREADS = "all"
BASE, ONE, TWO = "one process, 2 threads", "one process, 1 thread", "2 ranks of 1 thread"
GROUPS = {BASE: (0, 2), ONE: (0, 1), "1 rank of 2 threads": (1, 2), TWO: (2, 1), "3 ranks of 1 thread": (3, 1),
          "4 ranks of 1 thread": (4, 1)}                        # ranks, 0 without MPI, and the threads of each
BATCHES = (32, 128)


# ---- A rank, in a process of its own ---------------------------------------------------------------------------------

def rank(mode, name, network, threads):
    """Answer as contestant.py does, in each of the processes; rank 0 reads and writes. `mode` is "mpi" or "alone"."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from benchmarks.peers import minicnn_model
    from minicnn.core.processes import Alone

    group, collect = Alone(), lambda content: [content]
    if mode == "mpi":
        from minicnn.distributed import MPI
        group = MPI()
        collect = group.collect
    model, (images, labels), batches = minicnn_model(COV19NET, int(threads)), COV19NET.images(), {}
    trainer, first, labels = model._trainer, model.get_weights(), np.float32(labels[:, None])

    def times(batch, count):
        own = group.samples(batch, model.network)
        turn = batches.setdefault(batch, itertools.cycle([(np.ascontiguousarray(images[i:i + batch][own]), labels[i:i + batch])
                                                          for i in range(0, len(images), batch)]))
        model.set_weights(first)
        walls, sent, began = [], [], 0
        for i in range(count + 1):              # in the first, which does not count, all ranks arrive
            bytes_before, start = getattr(group, "sent", 0), time.perf_counter()
            trainer.step(*next(turn))
            trainer.between_batches()
            walls.append(time.perf_counter() - start)
            sent.append(getattr(group, "sent", 0) - bytes_before)
            began = began or time.process_time()
        processor = (time.process_time() - began) / count
        return {"times": walls[1:], "processor": sum(collect(processor)), "sent": collect(int(np.median(sent)))}

    def link(size=2**24):
        given, found = np.zeros(size, np.uint8), np.zeros(group.size * size, np.uint8)
        gather = timed(lambda: group.wait(group.start_gather(given, [size] * group.size, found)), 20)
        return {"latency": np.median(timed(lambda: group.largest(0), 1000)), "bandwidth": size / np.median(gather)}

    commands, answer = {"times": times, "link": link}, None
    with trainer.shared_by(group):
        while True:
            if group.rank == 0:
                print(json.dumps(answer), file=answers, flush=True)
            command, *arguments = json.loads(_question(group) or "[null]")
            if command is None:
                return
            answer = commands[command](*arguments)


def _question(group):
    """Return the line that rank 0 reads. The others sleep meanwhile: one that waits for MPI would disturb the turns of others."""
    line = sys.stdin.readline() if group.rank == 0 else ""
    if group.size > 1:
        from mpi4py import MPI
        arrived = MPI.COMM_WORLD.Ibarrier()
        while not arrived.Test():
            time.sleep(0.02)
    return group.broadcast(line)


# ---- The benchmark ---------------------------------------------------------------------------------------------------

def run(options):
    mpiexec = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
    if not mpiexec or not importlib.util.find_spec("mpi4py"):
        return {"absent": {"MPI": "mpi4py is not installed" if mpiexec else "there is no mpiexec"}}
    try:
        with ExitStack() as stack:
            there = {}
            for name, (ranks, threads) in GROUPS.items():
                command = [mpiexec, "-n", str(ranks)] * bool(ranks) + [sys.executable, "-m", "benchmarks.distributed"]
                command.append("mpi" if ranks else "alone")
                there[name] = stack.enter_context(Contestant(name, COV19NET.name, threads, command))
            for contestant in there.values():
                contestant.answer()
            batches = {str(batch): _measure(there, batch, options.rounds or (2 if options.quick else 20)) for batch in BATCHES}
            return {"absent": {}, "batches": batches, "link": there[TWO].ask("link")}
    except Failed as error:
        return {"absent": {"MPI": f"{error.name}: {error}"}}


def _measure(there, batch, rounds):
    answers = {name: [] for name in there}

    def turns(name):
        def times(count):
            answers[name].append(there[name].ask("times", batch, count))
            return answers[name][-1]["times"]
        return Turns(times)

    times, processor = interleave({name: turns(name) for name in there}, rounds), {}
    for name, (_, *rest) in answers.items():            # the first is what interleave warms up with
        spent = [1e3 * answer["processor"] for answer in rest]
        processor[name] = {"rounds": spent, "best": min(spent)}
    return {"wall": compare(times, BASE), "processor": compare(processor, BASE),
            "sent": {name: answers[name][-1]["sent"] for name in there}}


def report(results):
    result = next(iter(results.values()))
    if result["absent"]:
        return absences(result["absent"])
    best, times, sizes, model = {}, [], [], []
    for batch, measured in result["batches"].items():
        processor = {row["name"]: row for row in measured["processor"]}
        for row in sorted(measured["wall"], key=lambda row: [*GROUPS].index(row["name"])):
            best[int(batch), row["name"]], spent = row["best"] / 1e3, processor[row["name"]]
            times.append([f"{batch} images, {row['name']}", number(row["median"]), number(row["best"]), ratio(row),
                          number(spent["median"]), ratio(spent)])
        for name, (ranks, _) in GROUPS.items():
            if ranks > 1:
                sizes.append([f"{batch} images, {ranks} ranks", f"{sum(measured['sent'][name]):,}",
                              f"{sent(cov19net(), int(batch), ranks).sum():,}"])
    few, many = BATCHES
    image, link = (best[many, ONE] - best[few, ONE]) / (many - few), result["link"]
    cost = Cost(image, max(0, best[few, ONE] - image * few))
    for batch in BATCHES:
        seconds = best[batch, TWO], *step_seconds(cov19net(), batch, 2, cost, link["latency"], link["bandwidth"])
        model.append([f"{batch} images", *(number(1e3 * one) for one in seconds)])
    return "\n".join([
        f"A step of COV-19Net on {result['machine']['cores']} cores. Processor time is that of all ranks together; ratios are to "
        f"{BASE}, median (quartiles).\n",
        table(["", "wall, ms", "best", "ratio", "processor, ms", "ratio"], times),
        table(["bytes sent in a step, all ranks", "measured", "formula"], sizes),
        f"Between two ranks here a collective of 8 bytes takes {number(1e6 * link['latency'])} us, and a rank sends "
        f"{number(link['bandwidth'] / 1e9)} GB/s. One core takes {number(1e3 * cost.image)} ms an image "
        f"({number(COV19NET.flops(training=True) / cost.image / 1e9)} GFLOP/s, counted densely) and {number(1e3 * cost.rest)} ms "
        "a step. With these numbers, two ranks:\n",
        table(["ms of a step", "measured, best", "formula, nothing hidden", "formula, all hidden that can be"], model),
        "**Computed, not measured**: times as fast as one rank, from nothing hidden to all hidden that can be. A rank is one "
        "core of this CPU in a machine of its own: with more cores to a rank, exchanges weigh more. COV-19Net has the cost "
        "above. ResNet-50 and VGG-19 are assumed to run as many GFLOP/s (with fewer, exchanges weigh less), and to take as long "
        f"a step for each parameter. Latencies are assumed, and that MPI reaches {REACHED:.0%} of the bandwidth. A dash: the "
        "batch has fewer chunks than ranks.\n",
        predictions(cost)])


if __name__ == "__main__":
    rank(*sys.argv[1:]) if sys.argv[1:2] in (["mpi"], ["alone"]) else main(sys.modules[__name__])
