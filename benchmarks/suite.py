"""Training and prediction of ten networks against the frameworks, each in a process of its own, in turns.

    python -m benchmarks.suite --threads 2 --rounds 7
    python -m benchmarks.suite --only VGG COV-19      # the networks with one of these in their names
    python -m benchmarks.suite --with "PyTorch compiled"

takes about 15 minutes for each number of threads. Before anything is timed, the predictions and the losses of three steps
are compared with minicnn's: a contestant that computes something else is left out.
"""

import sys
from contextlib import ExitStack

import numpy as np

from benchmarks.command import main
from benchmarks.contestant import Contestant, Failed, start
from benchmarks.measure import OURS, compare, fastest, interleave
from benchmarks.networks import COV19NET, NETWORKS
from benchmarks.peers import BUILDERS, OPTIONAL
from benchmarks.report import Bar, absences, bar_plot, number, ratio, table, threads_in_words

TITLE = "The suite"
THREADS = "both"
ONNX = "ONNX Runtime"
REMEMBERED = [OURS, "PyTorch channels_last", "Keras"]       # whose memory is measured
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
    found = {"parameters": network.parameters, "mflop": network.flops() / 1e6, "batch": network.batch, "tasks": {}}
    with ExitStack() as stack:
        contestants, absent = start(stack, names, network, options.threads)
        found["difference"] = agree(network, contestants, absent)
        for task, n in [("train", network.batch)] + [("predict", n) for n in network.sizes]:
            rows = in_turns(task, n, contestants, absent, options)
            found["tasks"][f"{task} {n}"] = rows
        if network is COV19NET and options.threads > 1:
            found["pause"] = after_pause(stack, network, contestants, options)
    if options.threads > 1:
        found["memory"] = {name: memory(name, network, options.threads) for name in REMEMBERED if name in contestants}
    return found | {"absent": absent}


def agree(network, contestants, absent):
    """Leave out who computes something else; return the largest differences of the others from minicnn's values."""
    values, largest = {}, dict.fromkeys(AGREEMENT, 0.0)
    for name, contestant in list(contestants.items()):
        try:
            values[name] = {"predictions": contestant.values("predict", network.batch)}
            if "train" in contestant.tasks:
                values[name]["losses"] = contestant.values("train", network.batch, 3)
            for what, theirs in values[name].items():
                difference = np.abs(theirs - values[OURS][what])
                if not (difference <= AGREEMENT[what]).all():
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
            return compare(interleave(turns, rounds(options), 0.05 if options.quick else 0.25, most=100))
        except Failed as error:
            leave_out(error, contestants, absent)


def rounds(options):
    return options.rounds or (2 if options.quick else 7)


def after_pause(stack, network, contestants, options):
    """Return the rows of one thread beside all threads, each call after a pause; by name of the library."""
    found = {}
    for name in (OURS, ONNX):
        if name in contestants:
            alone = stack.enter_context(Contestant(name, network.name, 1))
            alone.answer()
            turns = {threads_in_words(options.threads): contestants[name], threads_in_words(1): alone}
            turns = {words: contestant.turns("predict", 32, SLEEP) for words, contestant in turns.items()}
            times = interleave(turns, rounds(options), budget=1, most=15)
            found[name] = compare(times, threads_in_words(options.threads))
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

GROUPS = {"train": "Training step", "one": "Prediction, one image", "batch": "Prediction, a batch", "many": "Prediction, n = 256"}


def grouped(result):
    """Return {group: {network: rows of `measure.compare`}} of a result, and the sizes as {group: {network: n}}."""
    rows, sizes = {group: {} for group in GROUPS}, {group: {} for group in GROUPS}
    for name, network in result["networks"].items():
        for task, compared in network["tasks"].items():
            kind, n = task.split()
            group = "train" if kind == "train" else {1: "one", network["batch"]: "batch"}.get(int(n), "many")
            rows[group][name], sizes[group][name] = compared, int(n)
    return rows, sizes


def lowest_first(compared):
    """Return [(network, rows)] of {network: rows}; first those with the lowest ratio to the fastest peer."""
    def lowest(item):
        peer = fastest(item[1])
        return peer["ratio"] if peer else np.inf
    return sorted(compared.items(), key=lowest)


def comparison(compared, sizes):
    """Return the table of one group."""
    names = [name for name in BUILDERS if name != OURS and any(row["name"] == name for rows in compared.values() for row in rows)]
    lines = []
    for network, rows in lowest_first(compared):
        cells, peer = {row["name"]: f"{row['ratio']:.2f} ({row['best_ratio']:.2f})" for row in rows}, fastest(rows)
        if peer:
            cells[peer["name"]] = f"**{cells[peer['name']]}**"
        lines.append([network, sizes[network], f"{number(rows[0]['median'])} ({number(rows[0]['best'])})",
                      *[cells.get(name, "") for name in names],
                      f"{peer['low']:.2f} .. {peer['high']:.2f}" if peer else ""])
    return table(["", "images", "minicnn, ms", *names, "quartiles of the fastest"], lines)


def report(results):
    text = ["A cell is the peer's time over minicnn's, the median over the rounds, and in brackets that of the best times: "
            "above 1, minicnn is faster. The fastest peer is in bold, and the lowest ratio first. A training step is forward, "
            "loss, backward and Adam.\n"]
    for threads, result in results.items():
        rows, sizes = grouped(result)
        for group, title in GROUPS.items():
            if rows[group]:
                text += [f"### {title}, {threads_in_words(threads)}\n", comparison(rows[group], sizes[group])]
    threads, result = next(iter(results.items()))
    networks = result["networks"]
    text += ["### The networks\n", "Predictions and the losses of three steps differ from minicnn's by at most this much "
             "(PyTorch adds Adam's epsilon elsewhere).\n",
             table(["", "parameters", "MFLOP an image", "batch", "predictions", "losses"],
                   [[name, f"{n['parameters']:,}", number(n["mflop"]), n["batch"], *[f"{d:.1g}" for d in n["difference"].values()]]
                    for name, n in networks.items()])]
    text.append(absences(absent(results)))
    remembered = {name: network["memory"] for name, network in networks.items() if OURS in network.get("memory", {})}
    if remembered:
        names = [name for name in REMEMBERED if any(name in memory for memory in remembered.values())]
        lines = [[network, *[f"{number(memory[name][0])} + {number(memory[name][1])}" if name in memory else "" for name in names],
                  *[f"{memory_ratio(memory, name):.2f}" if name in memory else "" for name in names[1:]]]
                 for network, memory in sorted(remembered.items(), key=lambda item: memory_ratio(item[1]))]
        text += ["### Memory of training\n", "MB resident after a step of one image + how much higher three steps of a batch "
                 "rise above it. Ratios are of the latter, the peer's over minicnn's.\n",
                 table(["", *names, *[f"{name}, ratio" for name in names[1:]]], lines)]
    for network in networks.values():
        if "pause" in network:
            lines = [[name, *[f"{number(row['median'])} ({number(row['best'])})" for row in rows], ratio(rows[1]),
                      f"{rows[1]['best_ratio']:.2f}"] for name, rows in network["pause"].items()]
            text += ["### After a pause\n", f"COV-19Net, n = 32, each call after {1e3 * SLEEP:.0f} ms of sleep: above 1, "
                     f"{threads_in_words(threads)} are faster than one.\n",
                     table(["", f"{threads_in_words(threads)}, ms", "one thread, ms", "times as fast (quartiles)",
                            "of the best times"], lines)]
    return "\n".join(text)


def absent(results):
    """Return {peer: why it is missing, and where}."""
    found = {}
    for threads, result in results.items():
        for name, network in result["networks"].items():
            for peer, why in network["absent"].items():
                found.setdefault(peer, {}).setdefault(why, []).append(f"{name}, {threads_in_words(threads)}")
    return {peer: "; ".join(f"{why} ({'; '.join(where)})" for why, where in reasons.items()) for peer, reasons in found.items()}


def memory_ratio(memory, name="PyTorch channels_last"):
    """Return what a peer's training needs over what minicnn's needs; infinite where it was not measured."""
    return memory[name][1] / memory[OURS][1] if name in memory else np.inf


def summary(stored):
    """Return the table of all CPUs: {file name of the CPU: {benchmark: {threads: result}}}."""
    lines = []
    for measured in stored.values():
        results = measured.get("suite", {})
        for name in dict.fromkeys(name for result in results.values() for name in result["networks"]):
            cells, values = [], []
            for group, peer in (("train", None), ("one", ONNX), ("batch", ONNX)):
                ratios = [against(grouped(result)[0][group].get(name, []), peer) for result in results.values()]
                cells.append(" / ".join(f"{value:.2f}" if value else "-" for value in ratios))
                values += filter(None, ratios)
            memory = next((result["networks"][name]["memory"] for result in results.values()
                           if "memory" in result["networks"].get(name, {})), {})
            cpu = next(iter(results.values()))["machine"]["cpu"]
            cells.append(f"{memory_ratio(memory):.2f}" if "PyTorch channels_last" in memory else "-")
            lines.append((min(values, default=np.inf), [name, cpu, *cells]))
    threads = next((results["suite"] for results in stored.values() if "suite" in results), {})
    text = table(["", "CPU", "training: fastest framework", f"n = 1: {ONNX}", f"n = 32: {ONNX}", "memory: PyTorch"],
                 [line for _, line in sorted(lines, key=lambda line: line[0])])
    return (f"Their time over minicnn's, {' / '.join(threads_in_words(count) for count in threads)}, and their memory while "
            "training over minicnn's: above 1, minicnn is better. The lowest ratio is first.\n\n" + text)


def against(rows, name=None):
    """Return the ratio to a peer, by default to the fastest, or None where it is not there."""
    peer = next((row for row in rows if row["name"] == name), None) if name else fastest(rows)
    return peer["ratio"] if peer else None


def draw(results, folder):
    threads, result = next(iter(results.items()))
    panels, rows = [], grouped(result)[0]
    for group in ("train", "one", "batch"):
        bars = []
        for network, compared in lowest_first(rows[group]):
            peer = fastest(compared)
            if peer:
                bars.append(Bar(network.split(",")[0], peer["ratio"], f"{peer['ratio']:.2f}  {peer['name']}", peer["best_ratio"]))
        panels.append((f"{GROUPS[group]}, {threads_in_words(threads)}", "times as fast as the fastest peer", bars))
    bar_plot(folder / "suite.png", panels, 14, mark=1, ours="")
    return [("suite.png", "How many times as fast as the fastest peer minicnn is, by network (white mark: of the best times)")]


if __name__ == "__main__":
    main(sys.modules[__name__])
