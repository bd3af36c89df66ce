"""How results are shown: Markdown tables, plots, and RESULTS.md as a whole."""

import re
from typing import NamedTuple

from benchmarks.measure import OURS, fastest
from benchmarks.processes import ROOT

__all__ = ["BUSY", "table", "readme_section", "write_readme", "number", "ratio", "verdict", "comparison", "absences",
           "threads_in_words", "versions_text", "compose", "newest_machine", "PEER", "Bar", "comparison_bars", "bar_plot"]

BUSY = 0.05             # the share of the machine that other programs may use before the results are marked
PEER = "#9AA5B1"        # the colour of all that is not minicnn


def table(header, rows):
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def readme_section(name, path=ROOT / "README.md"):
    """Return a file as (text before, text between, text after) the two markers of this name; exit without them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    found = re.fullmatch(f"(.*{begin}\n)(.*)({end}.*)", path.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise SystemExit(f"{path.name}: expected the lines {begin} and {end}, in this order.")
    return found.groups()


def write_readme(name, text, path=ROOT / "README.md"):
    """Write a text between the two markers of its name; exit without them."""
    before, _, after = readme_section(name, path)
    path.write_text(before + text + after, encoding="utf-8")


def number(value):
    """Return three significant digits.

    >>> [number(value) for value in (0.01234, 5.678, 123.4, 12345.6)]
    ['0.0123', '5.68', '123', '12,346']
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value < 1 else f"{value:.{2 if value < 10 else 1}f}"


def ratio(row):
    """Return the ratio of a row of `measure.compare` with its quartiles."""
    return f"{row['ratio']:.2f} ({row['low']:.2f} .. {row['high']:.2f})"


def verdict(rows):
    """Return the sentence that names the fastest peer."""
    first = fastest(rows)
    if first is None:
        return "No peer is installed.\n"
    return (f"The fastest peer is **{first['name']}**: it takes **{first['ratio']:.2f} times** as long as minicnn "
            f"(best times: {first['best_ratio']:.2f}).\n")


def comparison(rows):
    """Return the rows of `measure.compare` as a table; the fastest peer is in bold."""
    first, lines = fastest(rows), []
    for row in rows:
        cells = [row["name"], number(row["median"]), number(row["best"])]
        cells += ["1", "1"] if row["name"] == OURS else [ratio(row), f"{row['best_ratio']:.2f}"]
        lines.append([f"**{cell}**" for cell in cells] if row is first else cells)
    header = ["", "ms, median", "ms, best", "times minicnn, median (quartiles)", "of the best times"]
    return table(header, lines)


def absences(absent):
    """Return a line for each peer that is missing, with the reason."""
    return "".join(f"- {name} is left out: {why}\n" for name, why in absent.items())


def threads_in_words(threads):
    return "one thread" if threads == 1 else f"{threads} threads"


def versions_text(versions, names):
    """Return the versions of {label: package} that are installed, as text."""
    return ", ".join(f"{label} {versions[name]}" for label, name in names.items() if name in versions)


def compose(benchmarks, stored, folder):
    """Return RESULTS.md from {name: module} and {file name of a CPU: {name: {threads: result}}}.

    Plots are saved in `folder`/results/<file name of the CPU>.
    """
    text = ["# Results\n", "Written by `python -m benchmarks`; [README.md](README.md) explains how to read it. The "
            "times of one table were taken in turns, in the same minutes: trust the ratios more than the times.\n"]
    for benchmark in benchmarks.values():
        if hasattr(benchmark, "summary"):
            text.append(benchmark.summary(stored))
    for name, measured in stored.items():
        text += chapters(benchmarks, measured, folder, f"results/{name}")
    return "\n".join(text)


def chapters(benchmarks, stored, folder, plots):
    """Return what was measured on one CPU, a list of texts."""
    newest = newest_machine(stored)
    text = [f"# {newest['cpu']}\n", f"{newest['cores']} cores, {newest['system']}; {newest['date']}.\n",
            ", ".join(f"{name} {version}" for name, version in newest["versions"].items()) + ".\n"]
    for name, benchmark in benchmarks.items():
        if name not in stored:
            continue
        results = stored[name]
        remarks = ["a quick run: too short to quote"] if any(r["quick"] for r in results.values()) else []
        taken = max((result["disturbance"] or 0 for result in results.values()), default=0)
        if taken > BUSY:
            remarks.append(f"other programs used {100 * taken:.0f} % of the machine meanwhile: measure again")
        dates = dict.fromkeys(result["machine"]["date"] for result in results.values())
        remarks += dates if [*dates] != [newest["date"]] else []
        text.append(f"## {benchmark.TITLE}\n")
        text += [f"*({'; '.join(remarks)})*\n"] if remarks else []
        text.append(benchmark.report(results))
        if hasattr(benchmark, "draw"):
            (folder / plots).mkdir(parents=True, exist_ok=True)
            try:
                text += [f"![{what}]({plots}/{file})\n" for file, what in benchmark.draw(results, folder / plots)]
            except ImportError:
                text.append("No plot: matplotlib is not installed.\n")
    return text


def newest_machine(stored):
    """Return the machine of the newest result out of {name: {threads: result}}, with the newest version of each package."""
    machines = [result["machine"] for results in stored.values() for result in results.values()]
    machines.sort(key=lambda machine: machine["date"])
    return machines[-1] | {"versions": {name: version for m in machines for name, version in m["versions"].items()}}


# ---- Plots -----------------------------------------------------------------------------------------------------------

class Bar(NamedTuple):
    """A bar from 0 to `value`, with a text at its end and, where `tick` is a number, a white mark there."""

    name: str
    value: float
    label: str
    tick: float | None = None


def comparison_bars(rows):
    """Return rows of `measure.compare` as bars: the median, a tick at the best time, the ratio at the end."""
    labels = ["" if row["name"] == OURS else f"   {row['ratio']:.1f}x" for row in rows]
    return [Bar(row["name"], row["median"], number(row["median"]) + label, row["best"])
            for row, label in zip(rows, labels)]


def bar_plot(path, panels, width, mark=None, ours=OURS):
    """Save a plot of horizontal bars.

    Parameters
    ----------
    panels : list of (title, label of the axis, list of Bar), side by side
    mark : float, where a line is drawn across all bars
    ours : str; bars whose name begins with it are green
    """
    from minicnn.plotting import style      # late: who measures memory must be small

    figure = style.new_figure(width, 0.95 + 0.34 * max(len(bars) for _, _, bars in panels))
    for ax, (title, label, bars) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        longest = max(bar.value for bar in bars)
        style.quiet(ax, title)
        ax.grid(False)
        for i, bar in enumerate(reversed(bars)):
            ax.barh(i, bar.value, height=0.62, color=style.GREEN if bar.name.startswith(ours) else PEER)
            if bar.tick is not None:
                ax.plot([bar.tick] * 2, [i - 0.31, i + 0.31], color="white", linewidth=1.5)
            ax.text(bar.value + longest / 60, i, bar.label, va="center", fontsize=style.SIZE - 1, color=style.INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        if mark is not None:
            ax.axvline(mark, color=style.QUIET, linewidth=1, zorder=0)
        ax.set_yticks(range(len(bars)), [bar.name for bar in reversed(bars)])
        ax.set_xlim(0, 1.3 * longest)
        ax.set_xlabel(label, fontsize=style.SIZE - 1, color=style.INK)
    style.save(figure, path)
