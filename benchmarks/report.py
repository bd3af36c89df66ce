"""How results look: tables in Markdown, pictures by matplotlib, and RESULTS.md as a whole."""

from benchmarks.measure import COLOUR, OURS, fastest
from benchmarks.processes import ROOT

BUSY = 0.05             # the share of the machine that others may take before figures are not worth keeping

__all__ = ["table", "number", "ratio", "verdict", "comparison", "absences", "threads_in_words", "compose", "canvas",
           "save", "bars", "COLOURS", "markers", "put_between"]

COLOURS = {OURS: "#00695c", "peer": "#9aa5b1", "accent": "#d9822b", "ink": "#2b2f33", "faint": "#d5dae0"}


def table(header, rows):
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def markers(name):
    """Return the lines between which a table of this name stands in README.md."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def put_between(name, text, path=ROOT / "README.md"):
    """Put a text between the two markers of its name; where they are missing, return a sentence that says so."""
    begin, end = markers(name)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_too, after = rest.partition(end)
    if not (found and found_too):
        return f"{path.name}: expected the lines {begin} and {end}, in this order."
    path.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
    return None


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


def comparison(rows, unit="ms"):
    """Return the rows of `measure.compare` as a table; the fastest peer is in bold."""
    first, lines = fastest(rows), []
    for row in rows:
        cells = [row["name"], number(row["median"]), number(row["best"])]
        cells += ["1", "1"] if row["name"] == OURS else [ratio(row), f"{row['best_ratio']:.2f}"]
        lines.append([f"**{cell}**" for cell in cells] if row is first else cells)
    header = ["", f"{unit}, median", f"{unit}, best", "times minicnn, median (quartiles)", "of the best times"]
    return table(header, lines)


def absences(absent):
    """Return a line for each peer that was left out, and why."""
    return "".join(f"- {name} is left out: {why}\n" for name, why in absent.items())


def threads_in_words(threads):
    return "one thread" if threads == 1 else f"{threads} threads"


def compose(parts, stored, folder):
    """Return RESULTS.md from {name: module} and {name: {threads: result}}; pictures are saved in `folder`."""
    newest = max((result for results in stored.values() for result in results.values()),
                 key=lambda result: result["machine"]["date"])["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
    text = ["# Results\n", "Written by `python -m benchmarks`; [README.md](README.md) says how to read it. Times of "
            "one table were taken in turns, in the same minutes: trust the ratios before the times.\n",
            f"{newest['cpu']}, {newest['cores']} cores, {newest['system']}; {newest['date']}.\n", f"{versions}.\n"]
    for name, part in parts.items():
        if name not in stored:
            continue
        results = stored[name]
        remarks = ["a quick run: too short to quote"] if any(r["quick"] for r in results.values()) else []
        taken = max((result["disturbance"] or 0 for result in results.values()), default=0)
        if taken > BUSY:
            remarks.append(f"other programs took {100 * taken:.0f} % of the machine meanwhile: measure again")
        other = next((r["machine"] for r in results.values() if r["machine"] != newest), None)
        if other:
            remarks.append(f"{other['cpu']}, {other['date']}, minicnn {other['versions'].get(OURS, '?')}")
        text.append(f"## {part.TITLE}\n")
        text += [f"*({'; '.join(remarks)})*\n"] if remarks else []
        text.append(part.report(results))
        try:
            pictures = part.draw(results, folder) if hasattr(part, "draw") else []
        except ImportError as error:
            pictures = []
            text.append(f"No picture: {error.name} is not installed.\n")
        text += [f"![{what}]({file})\n" for file, what in pictures]
    return "\n".join(text)


# ---- Pictures --------------------------------------------------------------------------------------------------------

def canvas(rows=1, columns=1, size=(8, 3.2)):
    """Return a matplotlib figure and its axes, in an array (rows, columns), without frames."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.edgecolor": COLOURS["peer"], "axes.labelcolor": COLOURS["ink"],
                            "axes.titlesize": 10, "axes.titlelocation": "left", "axes.axisbelow": True,
                            "xtick.color": COLOURS["ink"], "ytick.color": COLOURS["ink"], "axes.spines.top": False,
                            "axes.spines.right": False})
    return pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def save(figure, folder, name):
    from matplotlib import pyplot
    figure.savefig(folder / name, dpi=110)
    pyplot.close(figure)


def bars(axes, rows, title, unit="ms"):
    """Draw rows of `measure.compare` as bars: the median, a tick at the best, and the ratio at the end."""
    rows = rows[::-1]
    longest = max(row["median"] for row in rows)
    for i, row in enumerate(rows):
        ours = row["name"] == OURS
        axes.barh(i, row["median"], height=0.62, color=COLOURS[OURS if ours or row["name"] == COLOUR else "peer"])
        axes.plot([row["best"]] * 2, [i - 0.31, i + 0.31], color="white", linewidth=1.5)
        label = number(row["median"]) + ("" if ours else f"   {row['ratio']:.1f}x")
        axes.text(row["median"] + longest / 60, i, label, va="center", color=COLOURS["ink"])
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set(title=title, xlabel=unit, xlim=(0, longest * 1.28))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=COLOURS["faint"], linewidth=0.6)
