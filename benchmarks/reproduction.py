"""The table of the project's README on what the network is worth, from a study, and never typed.

    minicnn reproduce --data MANIFEST --external CSV --out STUDY
    python -m benchmarks.reproduction STUDY     keep its figures in reproduction.json, and put the table into README.md
    python -m benchmarks.reproduction           the table again, from reproduction.json

Of a study only figures are kept: no picture, and no name of a file or a patient.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.report import put_between, table
from minicnn.reporting.console import cell
from minicnn.reporting.tables import percent
from minicnn.study.chapters.summary import claimed, measured

KEPT = ROOT / "benchmarks" / "reproduction.json"


def figures_of(found):
    """Return what is kept of a study's results.json."""
    rows = [[name, f"{told['n']:,}", cell(told, "accuracy"), cell(told, "auc")] for name, told in measured(found).items()]
    suspects = {suspect["name"]: suspect for suspect in found["audit"]["shortcuts"]}
    return {"command": found["command"], "claimed": claimed(found), "rows": rows, "settings": found["settings"],
            "environment": {name: found["environment"][name] for name in ("minicnn", "numpy", "numba", "pillow")},
            "given_away": {name: [suspects[name][key] for key in ("auc", "low", "high")]
                           for name in ("header", "border", "source") if name in suspects}}


def readme_table(kept):
    """Return the table and the sentences under it."""
    rows = [["the paper's own figure (Table II, validation)", "", percent(kept["claimed"], 2), "not reported"], *kept["rows"]]
    away = [f"the {name} {auc:.2f}" for name, (auc, _, _) in kept["given_away"].items() if auc is not None]
    seeds = len(kept["settings"]["seeds"])
    text = table(["COV-19Net, measured on", "images", "accuracy", "AUC"], rows)
    text += (f"\n`{kept['command']}`: means of {seeds} seeds (of sources unseen, and of the recipe robust, one), with 95 % intervals "
             "that know patients; ~ rests on fewer than 50. ")
    if away:
        text += f"What gives these labels away without lungs, as an AUC: {', '.join(away)} (`minicnn data audit`). "
    return text.rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.reproduction", description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, nargs="?", help="the folder that minicnn reproduce wrote")
    chosen = parser.parse_args()
    if chosen.study is not None:
        found = json.loads((chosen.study / "results.json").read_text(encoding="ascii"))
        KEPT.write_text(json.dumps(figures_of(found), indent=1) + "\n", encoding="ascii")
    if (sentence := put_between("reproduction", readme_table(json.loads(KEPT.read_text(encoding="ascii"))))) is not None:
        print(sentence, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
