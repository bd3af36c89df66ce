"""How the time of a training step grows with batch, image, filters and threads.

    python -m benchmarks.scaling --rounds 5

takes about eight minutes. minicnn and PyTorch channels_last are timed in turns at every point. The curves are of
COV-19Net, with one size changed at a time: batch 32 (8 where the image grows), 64 x 64 images, 32 filters, all threads.
"""

import sys

import numpy as np

from benchmarks.command import main
from benchmarks.measure import OURS, compare, interleave
from benchmarks.networks import cov19net
from benchmarks.peers import build
from benchmarks.report import PEER, absences, number, ratio, table, threads_in_words

TITLE = "Scaling"
THREADS = "all"
RIVAL = "PyTorch channels_last"
LABELS = {"batch": "images in a batch", "side": "side of the image, pixels", "filters": "filters of each convolution",
          "threads": "threads"}


def points(threads, quick):
    """Yield (panel, value, network, threads) of every point."""
    for batch in (1, 8, 32) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        yield "batch", batch, cov19net(batch=batch), threads
    for side in (32, 64) if quick else (32, 48, 64, 96, 128, 192, 256):
        yield "side", side, cov19net(side=side, batch=8), threads
    for filters in (8, 32) if quick else (8, 16, 32, 48, 64, 96, 128):
        yield "filters", filters, cov19net(filters=filters), threads
    for count in range(1, threads + 1):
        yield "threads", count, cov19net(), count


def run(options):
    absent, measured = {}, []
    for panel, value, network, threads in points(options.threads, options.quick):
        images, calls = network.images(), {}
        for name in (OURS, RIVAL):
            try:
                if name not in options.without:
                    calls[name] = build(name, network, threads).call(*images, "train", network.batch)
            except ImportError as error:
                absent[name] = str(error)
        times = interleave(calls, options.rounds or (2 if options.quick else 5), 0.05 if options.quick else 0.3)
        measured += [row | {"panel": panel, "value": value, "ms": row["median"] / network.batch,
                            "gflops": network.flops(training=True) * network.batch / row["median"] / 1e6}
                     for row in compare(times)]
    return {"points": measured, "absent": absent}


def report(results):
    threads, result = next(iter(results.items()))
    text = [f"A training step of COV-19Net, {threads_in_words(threads)}; GFLOP/s are counted "
            f"densely. The last column is {RIVAL}'s time over minicnn's, median (quartiles).\n"]
    rows = []
    for point in result["points"]:
        if point["name"] == OURS:
            rival = next((p for p in result["points"] if p["name"] == RIVAL and p["panel"] == point["panel"]
                          and p["value"] == point["value"]), None)
            rows.append([f"{LABELS[point['panel']]}: {point['value']}", number(point["ms"]), number(point["gflops"]),
                         ratio(rival) if rival else ""])
    text.append(table(["", "ms an image", "GFLOP/s", "PyTorch over minicnn"], rows))
    return "\n".join(text) + absences(result["absent"])


def draw(results, folder):
    from matplotlib.ticker import LogLocator

    from minicnn.plotting import style

    points = next(iter(results.values()))["points"]
    figure = style.new_figure(8.5, 5.6)
    axes = figure.subplots(2, 2)
    for ax, (key, label) in zip(axes.flat, LABELS.items()):
        style.quiet(ax, "")
        for name, colour in ((RIVAL, PEER), (OURS, style.GREEN)):
            here = [(point["value"], point["ms"]) for point in points if (point["panel"], point["name"]) == (key, name)]
            here = np.reshape(here, (-1, 2)).T
            ax.plot(*here, "o-", color=colour, markersize=4, linewidth=1.6, label=name)
        values = sorted({point["value"] for point in points if point["panel"] == key})
        if key == "threads":
            ax.set(xlim=(0.7, max(values) + 0.3), ylim=(0, None))
        else:               # costs grow by factors: show factors
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xticks(values, values)
        ax.minorticks_off()
        ax.set_xlabel(label, fontsize=style.SIZE - 1, color=style.INK)
        ax.set_ylabel("ms an image", fontsize=style.SIZE - 1, color=style.INK)
    style.legend(axes[0, 0])
    style.save(figure, folder / "scaling.png")
    return [("scaling.png", "Milliseconds of a training step for each image, by batch, side, filters and threads")]


if __name__ == "__main__":
    main(sys.modules[__name__])
