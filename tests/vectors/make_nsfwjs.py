"""List the weights of the networks that npm's nsfwjs (MIT) brings, as `nsfwjs.tsv`: names and shapes, not the numbers.

They are Keras 2.2.4's MobileNetV2 and InceptionV3 of 2018, below three dense layers, as TensorFlow.js has them. Run by hand from
the root of the checkout (it is not needed to run the tests):

    npm pack nsfwjs && tar xzf nsfwjs-*.tgz
    python -m tests.vectors.make_nsfwjs package

JavaScript is not run: the topology is an object literal, whose words are made those of JSON. By hand, too, version 4.3.0's weights
(uint8, with a least value and a step each) were loaded into minicnn's networks, and its graph was run node by node with TensorFlow's
operators in float64, on two photographs, a radiograph and noise: probabilities differ by 4e-7 and 2e-8.
"""

import json
import re
import sys
from pathlib import Path

NETWORKS = ["mobilenet_v2", "inception_v3"]
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|![01]|[A-Za-z_$][\w$]*|-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[{}\[\]:,]')


def parsed(text):
    """Return the object of the literal that a text begins with."""
    words, depth, at = [], 0, 0
    while not words or depth:
        match = _WORD.match(text, at)
        word, at = match.group(), match.end()
        depth += (word in "{[") - (word in "}]")
        if word[0] == "!":
            word = {"!0": "true", "!1": "false"}[word]
        elif re.match(r"-?\.", word):
            word = word.replace(".", "0.", 1)
        elif word[0].isalpha() and word != "null" or word[0] in "_$":
            word = json.dumps(word)
        words.append(word)
    return json.loads("".join(words))


def rows(folder, network):
    """Yield (layer, weights, shape, weights, shape, ...) in the order of the model's layers; weights of one shape share a cell."""
    text = (Path(folder) / "dist/models" / network / "model.min.js").read_text(encoding="utf-8")
    model = parsed(text[text.index(".exports={") + len(".exports="):])
    held = {}
    for weight in (weight for group in model["weightsManifest"] for weight in group["weights"]):
        layer, name = weight["name"].rsplit("/", 1)
        held.setdefault(layer, {}).setdefault("x".join(map(str, weight["shape"])), []).append(name)
    for layer in model["modelTopology"]["model_config"]["config"]["layers"]:
        if shapes := held.get(layer["name"]):
            yield layer["name"], *(cell for shape, names in shapes.items() for cell in (",".join(names), shape))


if __name__ == "__main__":
    lines = ["\t".join([network, *row]) for network in NETWORKS for row in rows(sys.argv[1], network)]
    Path(__file__).with_name("nsfwjs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
