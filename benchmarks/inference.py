"""Predictions of COV-19Net for 1, 32 and 256 images, against ONNX Runtime and every other peer.

    python -m benchmarks.inference --threads 2 --rounds 15

takes about three minutes for each number of threads. minicnn runs `model.predict`, which checks its input,
works in batches of 32 and gives the same bits for any batch; the peers run their compiled forward pass.
"""

import sys

from benchmarks.command import main
from benchmarks.measure import COLOUR, OURS, compare_both, interleave
from benchmarks.networks import COV19NET, noise, phantoms
from benchmarks.peers import build, choose, disagreement
from benchmarks.report import absences, bar_plot, comparison, comparison_bars, threads_in_words, verdict

TITLE = "Inference"
THREADS = "both"
SIZES = (1, 32, 256)


def run(options):
    names, left_out = choose(options, "Keras fit")
    tables, colour, difference = {}, {}, 0.0
    images, labels = phantoms(max(SIZES))
    for n in SIZES:
        peers, absent = build(names, COV19NET, images[:n], labels[:n], n, options.threads)
        difference = max(difference, disagreement(peers)["predictions"])
        functions = {name: peer.predict for name, peer in peers.items()}
        in_colour, _ = build([OURS], COV19NET, *noise(COV19NET, n), n, options.threads)
        functions[COLOUR] = in_colour[OURS].predict
        tables[str(n)], colour[str(n)] = compare_both(
            interleave(functions, options.rounds or (3 if options.quick else 15), budget=0.15, most=50))
    return {"tables": tables, "colour": colour, "absent": left_out | absent, "difference": difference}


def report(results):
    text = ["COV-19Net, milliseconds until the probabilities of n images are a NumPy array. Radiographs are grey in "
            "three equal channels, for which minicnn computes less; its time for colour images is listed too.\n"]
    for threads, result in results.items():
        for n, rows in result["tables"].items():
            text += [f"### n = {n}, {threads_in_words(threads)}\n", verdict(rows), comparison(rows),
                     "In colour: " + verdict(result["colour"][n])]
        text.append(absences(result["absent"]))
        if result["difference"]:
            text.append(f"All agree: predictions differ from minicnn's by at most {result['difference']:.1g}.\n")
    return "\n".join(text)


def draw(results, folder):
    threads, result = next(iter(results.items()))
    panels = [(f"n = {n}, {threads_in_words(threads)}", "ms (white mark: the best)", comparison_bars(rows))
              for n, rows in result["tables"].items()]
    bar_plot(folder / "inference.png", panels, 13)
    return [("inference.png", "Milliseconds of a prediction, by library and number of images")]


if __name__ == "__main__":
    main(sys.modules[__name__])
