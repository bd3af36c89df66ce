"""The training step of COV-19Net, batch 32: forward, loss, backward and Adam, against every peer.

    python -m benchmarks.step --threads 2 --rounds 15

takes about five minutes for each number of threads. All libraries run in one process and are timed in turns.
"""

import sys

from benchmarks.command import main
from benchmarks.measure import COLOUR, OURS, compare_both, interleave
from benchmarks.networks import COV19NET, noise, phantoms
from benchmarks.peers import build, choose, disagreement
from benchmarks.report import absences, bar_plot, comparison, comparison_bars, threads_in_words, verdict

TITLE = "Training step"
THREADS = "both"
BATCH = 32


def run(options):
    count = 2 * BATCH if options.quick else 8 * BATCH
    x, t = phantoms(count)
    names, left_out = choose(options, "ONNX Runtime")
    peers, absent = build(names, COV19NET, x, t, BATCH, options.threads)
    difference = disagreement(peers)
    functions = {name: (peer.train, peer.steps) for name, peer in peers.items()}
    in_colour, _ = build([OURS], COV19NET, *noise(COV19NET, count), BATCH, options.threads)
    functions[COLOUR] = in_colour[OURS].train
    rows, colour = compare_both(interleave(functions, options.rounds or (3 if options.quick else 15)))
    return {"rows": rows, "colour": colour, "absent": left_out | absent, "difference": difference}


def report(results):
    text = ["COV-19Net, batch 32, synthetic radiographs; forward, loss, backward, Adam, and the loss as a Python "
            "number. Keras fit is one epoch of 50 steps, divided by 50. Radiographs are grey in three equal channels, "
            "for which minicnn computes less (`kernels/convolution/grey.py`); its time for colour images is listed too.\n"]
    for threads, result in results.items():
        text += [f"### {threads_in_words(threads).capitalize()}\n", verdict(result["rows"]), comparison(result["rows"])]
        text.append("In colour: " + verdict(result["colour"]))
        text.append(absences(result["absent"]))
        if len(result["rows"]) > 1:
            difference = result["difference"]
            text.append(f"All agree: predictions differ from minicnn's by at most {difference['predictions']:.1g}, "
                        f"the losses of three steps by {difference['losses']:.1g} (PyTorch adds Adam's epsilon "
                        "elsewhere).\n")
    return "\n".join(text)


def draw(results, folder):
    panels = [(threads_in_words(threads), "ms a step (white mark: the best)", comparison_bars(result["rows"]))
              for threads, result in results.items()]
    bar_plot(folder / "step.png", panels, 4.9 * len(panels))
    return [("step.png", "Milliseconds of a training step, by library")]


if __name__ == "__main__":
    main(sys.modules[__name__])
