"""Training and prediction of ten networks against the frameworks, each in a process of its own, in turns.

    python -m benchmarks.suite --threads 2 --rounds 7
    python -m benchmarks.suite --only VGG COV-19      # the networks with one of these in their names
    python -m benchmarks.suite --with "PyTorch compiled"

takes about 15 minutes for each number of threads. Before anything is timed, the predictions and the losses of three steps
are compared with minicnn's: a contestant that computes something else is left out.
"""

import sys
from contextlib import ExitStack, suppress

import numpy as np

from benchmarks.command import main
from benchmarks.contestant import Contestant, Failed, start
from benchmarks.measure import OURS, compare, fastest, interleave
from benchmarks.networks import COV19NET, NETWORKS
from benchmarks.peers import BUILDERS, OPTIONAL
from benchmarks.report import Bar, absences, bar_plot, number, ratio, table, threads_in_words

TITLE = "The suite"
THREADS = "both"
ONNX, TORCH = "ONNX Runtime", "PyTorch channels_last"
REMEMBERED = [OURS, TORCH, "Keras"]         # whose memory is measured
GROUPS = {"train": "Training, batch 32", "one": "Prediction, n = 1", "batch": "Prediction, n = 32",
          "many": "Prediction, n = 256"}
# The largest differences from minicnn's; of the losses after each step more, for PyTorch adds Adam's epsilon elsewhere.
AGREEMENT = {"predictions": 1e-4, "losses": [1e-4, 0.05, 0.05]}
SLEEP = 0.02


def arguments(parser):
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="networks with one of these in their names")
    parser.add_argument("--with", nargs="+", default=[], metavar="PEER", dest="also", choices=OPTIONAL,
                        help=f"peers beyond the usual ones: {', '.join(OPTIONAL)}")


def run(options):
    names = [name for name in BUILDERS if name not in options.without and (name not in OPTIONAL or name in options.also)]
    chosen = [network for network in NETWORKS.values() if any(text in network.name for text in options.only)]
    found = {}
    for network in chosen:
        print(f"  {network.name} ...", file=sys.stderr, flush=True)
        found[network.name] = measure(network, names, options)
    return {"networks": found}


def measure(network, names, options):
    """Return what is measured of one network."""
    found = {"parameters": network.parameters, "mflop": network.flops() / 1e6, "memory": {}}
    with ExitStack() as stack:
        contestants, found["absent"] = start(stack, names, network, options.threads)
        found["difference"] = agree(network, contestants, found["absent"])
        tasks = zip(GROUPS, [("train", network.batch), *[("predict", n) for n in network.sizes]])
        found["tasks"] = {group: in_turns(*task, contestants, found["absent"], options) for group, task in tasks}
        if network is COV19NET and options.threads > 1:
            found["pause"] = after_pause(stack, network, contestants, options)
    for name in REMEMBERED if options.threads > 1 else ():
        if name in contestants:
            with suppress(Failed):
                found["memory"][name] = memory(name, network, options.threads)
    return found


def agree(network, contestants, absent, steps=3):
    """Leave out who computes something else; return the largest differences of the others from minicnn's values."""
    values, largest = {}, dict.fromkeys(AGREEMENT, 0.0)
    for name, contestant in list(contestants.items()):
        try:
            values[name] = {"predictions": contestant.values("predict", network.batch)}
            if "train" in contestant.tasks:
                values[name]["losses"] = contestant.values("train", network.batch, steps)
            for what, theirs in values[name].items():
                difference = np.abs(theirs - values[OURS][what])
                if not (difference <= (AGREEMENT[what][:steps] if what == "losses" else AGREEMENT[what])).all():
                    raise Failed(name, f"its {what} differ by {difference.max():.2g}")
                largest[what] = max(largest[what], float(difference.max()))
        except Failed as error:
            leave_out(error, contestants, absent)
    return largest


def leave_out(error, contestants, absent):
    if error.name == OURS:
        raise error
    absent[error.name] = str(error)
    del contestants[error.name]


def in_turns(task, n, contestants, absent, options):
    """Return the rows of `measure.compare`; who fails is left out, and the others begin again."""
    while True:
        turns = {name: contestant.turns(task, n) for name, contestant in contestants.items() if task in contestant.tasks}
        try:
            return compare(interleave(turns, rounds(options), 0.05 if options.quick else 0.25, most=1000))
        except Failed as error:
            leave_out(error, contestants, absent)


def rounds(options):
    return options.rounds or (2 if options.quick else 7)


def after_pause(stack, network, contestants, options):
    """Return {library: the rows of all threads and of one}; each call comes after a pause."""
    alone, found = start(stack, [name for name in (OURS, ONNX) if name in contestants], network, 1)[0], {}
    many, one = threads_in_words(options.threads), threads_in_words(1)
    for name in alone:
        turns = {many: contestants[name].turns("predict", 32, SLEEP), one: alone[name].turns("predict", 32, SLEEP)}
        found[name] = compare(interleave(turns, rounds(options), budget=1, most=15), many)
    return found


def memory(name, network, threads):
    """Return the MB resident after a step of one image, and the MB more of three steps of a batch."""
    with Contestant(name, network.name, threads) as contestant:
        contestant.answer()
        contestant.values("train", 1)
        resident, _ = contestant.memory()
        contestant.values("train", network.batch, 3)
        return resident, contestant.memory()[1] - resident


# ---- What it shows ---------------------------------------------------------------------------------------------------

def lowest_first(networks, group):
    """Return [(network, rows, the fastest peer's row or None)]; first those with the lowest ratio to the fastest peer."""
    found = [(name, n["tasks"][group], fastest(n["tasks"][group])) for name, n in networks.items() if group in n["tasks"]]
    return sorted(found, key=lambda one: one[2]["ratio"] if one[2] else np.inf)


def comparison(networks, group):
    """Return the table of one group."""
    compared = lowest_first(networks, group)
    there, lines = {row["name"] for _, rows, _ in compared for row in rows}, []
    names = [name for name in BUILDERS if name in there and name != OURS]
    for network, (ours, *rows), peer in compared:
        cells = {row["name"]: f"{row['ratio']:.2f} ({row['best_ratio']:.2f})" for row in rows}
        if peer:
            cells[peer["name"]] = f"**{cells[peer['name']]}**"
        lines.append([network, times(ours), *[cells.get(name, "") for name in names],
                      f"{peer['low']:.2f} .. {peer['high']:.2f}" if peer else ""])
    return table(["", "minicnn, ms", *names, "quartiles of the fastest"], lines)


def times(row):
    return f"{number(row['median'])} ({number(row['best'])})"


def report(results):
    text = ["A cell is the peer's time over minicnn's, the median over the rounds, and in brackets that of the best "
            "times: above 1, minicnn is faster. The fastest peer is in bold, and the lowest ratio first. A training step is "
            "forward, loss, backward and Adam.\n"]
    for threads, result in results.items():
        for group, title in GROUPS.items():
            if any(group in network["tasks"] for network in result["networks"].values()):
                text += [f"### {title}, {threads_in_words(threads)}\n", comparison(result["networks"], group)]
    threads, networks = next((threads, result["networks"]) for threads, result in results.items())
    text += ["### The networks\n", "Predictions and the losses of three steps differ from minicnn's by at most this much "
             "(PyTorch adds Adam's epsilon elsewhere).\n",
             table(["", "parameters", "MFLOP an image", "predictions", "losses"],
                   [[name, f"{n['parameters']:,}", number(n["mflop"]), *map("{:.1g}".format, n["difference"].values())]
                    for name, n in networks.items()]),
             absences(absent(results))]
    memories = [(memory_ratio(n["memory"]), name, n["memory"]) for name, n in networks.items()]
    if any(memory for _, _, memory in memories):
        text += ["### Memory of training\n", "MB resident after a step of one image + how much higher three steps of a "
                 "batch rise above it; the ratio is that of the latter.\n",
                 table(["", *REMEMBERED, f"{TORCH} over minicnn"],
                       [[name, *[" + ".join(map(number, memory.get(library, ()))) for library in REMEMBERED], f"{value:.2f}"]
                        for value, name, memory in sorted(memories)])]
    for network in networks.values():
        if "pause" in network:
            text += ["### After a pause\n", f"COV-19Net, n = 32, each call after {1e3 * SLEEP:.0f} ms of sleep. Above 1, "
                     f"{threads_in_words(threads)} are faster than one.\n",
                     table(["", f"{threads_in_words(threads)}, ms", "one thread, ms", "times as fast (quartiles)",
                            "of the best times"], [[name, times(many), times(one), ratio(one), f"{one['best_ratio']:.2f}"]
                                                   for name, (many, one) in network["pause"].items()])]
    return "\n".join(text)


def absent(results):
    """Return {peer: why it is missing, and where}."""
    found = {}
    for threads, result in results.items():
        for name, network in result["networks"].items():
            for peer, why in network["absent"].items():
                found.setdefault(peer, {}).setdefault(why, []).append(f"{name}, {threads_in_words(threads)}")
    return {peer: "; ".join(f"{why} ({'; '.join(where)})" for why, where in reasons.items())
            for peer, reasons in found.items()}


def memory_ratio(memory):
    """Return the MB that PyTorch's training needs over minicnn's; nothing is known of it: infinite."""
    return memory[TORCH][1] / memory[OURS][1] if TORCH in memory and OURS in memory else np.inf


def summary(stored):
    """Return the table of all CPUs from {file name of the CPU: {benchmark: {threads: result}}}."""
    lines = []
    for results in (measured["suite"] for measured in stored.values() if "suite" in measured):
        machine, networks = next((result["machine"], result["networks"]) for result in results.values())
        for name, network in networks.items():
            cells = [[against(result["networks"][name]["tasks"][group], peer) for result in results.values()
                      if name in result["networks"]] for group, peer in (("train", None), ("one", ONNX), ("batch", ONNX))]
            cells.append([memory_ratio(network["memory"])])
            lines.append([min(map(min, cells)), name, machine["cpu"], " / ".join(map(str, results)),
                          *[" / ".join("-" if value == np.inf else f"{value:.2f}" for value in values) for values in cells]])
    header = ["", "CPU", "threads", "training: fastest framework", f"n = 1: {ONNX}", f"n = 32: {ONNX}", "memory: PyTorch"]
    return ("Their time over minicnn's, and their memory while training over minicnn's: above 1, minicnn is better. The "
            "lowest ratio is first.\n\n" + table(header, [line for _, *line in sorted(lines)]))


def against(rows, name):
    """Return the ratio to a peer, or to the fastest where `name` is None; infinite if it is not there."""
    peer = next((row for row in rows if row["name"] == name), None) if name else fastest(rows)
    return peer["ratio"] if peer else np.inf


def draw(results, folder):
    threads, networks = next((threads, result["networks"]) for threads, result in results.items())
    panels = [(f"{GROUPS[group]}, {threads_in_words(threads)}", "times as fast as the fastest peer",
               [Bar(name.split(",")[0], peer["ratio"], f"{peer['ratio']:.2f}  {peer['name']}", peer["best_ratio"])
                for name, _, peer in lowest_first(networks, group) if peer]) for group in ("train", "one", "batch")]
    bar_plot(folder / "suite.png", panels, 14, mark=1, ours="")
    return [("suite.png", "How many times as fast as the fastest peer minicnn is (white mark: of the best times)")]


if __name__ == "__main__":
    main(sys.modules[__name__])
