"""Write the README's table of the reproduced results, from the results of `minicnn reproduce`.

    minicnn reproduce --data MANIFEST --external CSV --out STUDY
    python -m benchmarks.reproduction STUDY     store the values in reproduction.json, write the table into README.md
    python -m benchmarks.reproduction           write the table again, from reproduction.json

Only values are stored: no image, and no name of a file or a patient.
"""

import argparse
import json
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.report import table, write_readme
from minicnn.core.text import join, percent
from minicnn.reporting.wording import cell
from minicnn.study.chapters.summary import claimed, measured

STORED = ROOT / "benchmarks" / "reproduction.json"


def stored_values(results):
    """Return what is stored of a study's results.json."""
    folds = {fold["name"]: f"leave-one-source-out, positives of {fold['source']}" for fold in results["unseen"]}
    rows = [[folds.get(name, name), f"{summary['n']:,}", cell(summary, "accuracy"), cell(summary, "auc")]
            for name, summary in measured(results).items()]
    confounders = {one["name"]: one for one in results["audit"]["shortcuts"]}
    return {"command": results["command"], "claimed": claimed(results), "rows": rows, "settings": results["settings"],
            "environment": {name: results["environment"][name] for name in ("minicnn", "numpy", "numba", "pillow")},
            "confounders": {name: [confounders[name][key] for key in ("auc", "low", "high")]
                            for name in ("header", "border", "source") if name in confounders}}


def readme_table(stored):
    """Return the table and the sentences below it."""
    rows = [["reported by the paper (Table II, validation)", "", percent(stored["claimed"], 2), "not reported"],
            *stored["rows"]]
    confounders = [f"the {name} {auc:.2f}" for name, (auc, _, _) in stored["confounders"].items() if auc is not None]
    seeds = len(stored["settings"]["seeds"])
    text = table(["COV-19Net, measured on", "images", "accuracy", "AUC"], rows)
    text += (f"\n`{stored['command']}`: means over {seeds} seeds (leave-one-source-out and recipe robust: one seed) "
             "with patient-clustered 95 % intervals; ~ marks intervals from fewer than 50 patients. ")
    if confounders:
        text += f"Confounders in these data, as the AUC without the lungs: {join(confounders)} (`minicnn data audit`). "
    return text.rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.reproduction", description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, nargs="?", help="the folder that minicnn reproduce wrote")
    chosen = parser.parse_args()
    if chosen.study is not None:
        results = json.loads((chosen.study / "results.json").read_text(encoding="ascii"))
        STORED.write_text(json.dumps(stored_values(results), indent=1) + "\n", encoding="ascii")
    write_readme("reproduction", readme_table(json.loads(STORED.read_text(encoding="ascii"))))


if __name__ == "__main__":
    main()
