"""Writes the tables of docs/*.md from the results in benchmarks/results, and the picture of the search's growth.

    python -m benchmarks.tables [--pictures]

A table stands between `<!-- table: NAME -->`, the name of a file of results, and `<!-- end of table -->`. After the
name may stand `COLUMN=VALUE`: only rows with this value, without the column.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks import harness

RESULTS = Path(__file__).with_name("results")
BLOCK = re.compile(r"<!-- table: (\w+)(?: (\w+)=(\S+))? -->\n.*?<!-- end of table -->", re.DOTALL)
LINES = {
    "first CPU s": ("to the end of the first step, CPU s", "s-C1"),
    "first s": ("on the clock", "s--C1"),
    "CPU s": ("a later step, CPU s", "o-C0"),
    "step s": ("on the clock", "o--C0"),
}
BASE = {"cells": "4", "channels": "8", "pixels": "64x32", "batch": "16", "identities": "751", "devices": "1"}


def read(name: str) -> dict[str, Any]:
    """The results of a name."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def block(name: str, column: str | None, value: str | None) -> str:
    """What stands between the comments: how the results came about, and the table."""
    results = read(name)
    if column:
        results["rows"] = [row for row in results["rows"] if row[column] == value]
        del results["columns"][column]
    command = [f"`{results['command']}`"] if "command" in results else []
    origin = "; ".join([*command, *(results[key] for key in ("date", "machine", "note") if key in results)])
    return f"{origin[0].upper()}{origin[1:]}:\n\n{harness.as_markdown(results)}"


def updated(text: str) -> str:
    """A document with its tables as the results have them."""

    def replace(found: re.Match[str]) -> str:
        first, last = found[0].splitlines()[0], found[0].splitlines()[-1]
        return f"{first}\n{block(*found.groups())}\n{last}"

    return BLOCK.sub(replace, text)


def draw_scaling(path: Path) -> None:
    """Draws the growth of a step in each dimension, both axes logarithmic, and how proportional growth looks."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    rows = read("scaling")["rows"]
    figure = Figure(figsize=(9.6, 5.6), dpi=100, layout="constrained")
    for axes, (dimension, base) in zip(figure.subplots(2, 3, sharey=True).flat, BASE.items(), strict=True):
        labelled = [(base, rows[0]), *((row["value"], row) for row in rows if row["dimension"] == dimension)]
        points = [(_amount(label), label, row) for label, row in labelled]
        points.sort(key=lambda point: point[0])
        amounts = [amount for amount, _, _ in points]
        for column, (label, style) in LINES.items():
            axes.plot(amounts, [row[column] for _, _, row in points], style, label=label)
        if dimension != "devices":  # which share the same work
            linear = [points[0][2]["CPU s"] * amount / amounts[0] for amount in amounts]
            axes.plot(amounts, linear, ":", color="gray", label="proportional")
        axes.set(xscale="log", yscale="log", xlabel=dimension)
        apart = [point for point in points if point[1] != "1,041"]  # which would lie on 751
        axes.set_xticks([amount for amount, _, _ in apart], [label for _, label, _ in apart])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(True, which="major", alpha=0.3)
    for axes in figure.axes[::3]:
        axes.set_ylabel("seconds")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8)
    figure.savefig(path)


def _amount(label: str) -> int:
    height, _, width = label.replace(",", "").partition("x")
    return int(height) * int(width or 1)


def main() -> None:
    """Rewrites the documents, and on demand the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="draw docs/images/scaling.png, too")
    arguments = parser.parse_args()
    for path in sorted((harness.ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if updated(text) != text:
            path.write_text(updated(text), encoding="utf-8")
            print(f"updated {path.relative_to(harness.ROOT)}")
    if arguments.pictures:
        draw_scaling(harness.ROOT / "docs" / "images" / "scaling.png")


if __name__ == "__main__":
    main()
