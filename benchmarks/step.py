"""The training step of COV-19Net, batch 32: forward, loss, backward and Adam, against every peer.

    python -m benchmarks.step --threads 2 --rounds 15

takes about five minutes for each number of threads. All contestants live in one process and take turns.
"""

import sys

from benchmarks.measure import COLOUR, OURS, compare_both, interleave
from benchmarks.networks import COV19NET, noise, phantoms
from benchmarks.part import main
from benchmarks.peers import build, choose, disagreement
from benchmarks.report import absences, bars, canvas, comparison, save, threads_in_words, verdict

TITLE = "Training step"
THREADS = "both"
BATCH = 32


def run(options):
    count = 2 * BATCH if options.quick else 8 * BATCH
    x, t = phantoms(count)
    names, left_out = choose(options, "ONNX Runtime")
    peers, absent = build(names, COV19NET, x, t, BATCH, options.threads)
    difference = disagreement(peers)
    contestants = {name: (peer.train, peer.steps) for name, peer in peers.items()}
    in_colour, _ = build([OURS], COV19NET, *noise(COV19NET, count), BATCH, options.threads)
    contestants[COLOUR] = in_colour[OURS].train
    rows, colour = compare_both(interleave(contestants, options.rounds or (3 if options.quick else 15)))
    return {"rows": rows, "colour": colour, "absent": left_out | absent, "difference": difference}


def report(results):
    text = ["COV-19Net, batch 32, synthetic radiographs; forward, loss, backward, Adam, and the loss as a Python "
            "number. Keras fit is one epoch of 50 steps, divided by 50. Radiographs are grey in three equal channels, "
            "and minicnn computes less for such (`kernels/convolution/grey.py`); its figure for images in colour stands beside.\n"]
    for threads, result in results.items():
        text += [f"### {threads_in_words(threads).capitalize()}\n", verdict(result["rows"]), comparison(result["rows"])]
        text.append("In colour: " + verdict(result["colour"]))
        text.append(absences(result["absent"]))
        if len(result["rows"]) > 1:
            difference = result["difference"]
            text.append(f"All agree: predictions differ from minicnn's by at most {difference['predictions']:.1g}, "
                        f"the losses of three steps by {difference['losses']:.1g} (PyTorch adds Adam's epsilon at "
                        "another place).\n")
    return "\n".join(text)


def draw(results, folder):
    count = max(len(result["rows"]) for result in results.values())
    figure, axes = canvas(1, len(results), size=(4.9 * len(results), 0.75 + 0.34 * count))
    for panel, (threads, result) in zip(axes[0], results.items()):
        bars(panel, result["rows"], threads_in_words(threads), "ms a step (white tick: the best)")
    save(figure, folder, "step.png")
    return [("step.png", "Milliseconds of a training step, by library")]


if __name__ == "__main__":
    main(sys.modules[__name__])
