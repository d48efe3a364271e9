"""Pictures of a search: alphas as heat maps, genotypes as graphs, batches as the network sees them.

Every function returns a new figure and changes no global state of matplotlib, so callbacks and threads may call them,
also on machines without a display.
"""

import io
import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps, colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from kdas_tf import files
from kdas_tf.candidates import CANDIDATES
from kdas_tf.drawing.cell_layout import COLUMNS, LIMIT, RADIUS, lay_out
from kdas_tf.genotype import EDGES, INPUTS, NODES, PRIMITIVES, CellName, Genotype, Matrix, derive, softmax

DOTS_PER_INCH = 150

_OUTPUT = INPUTS + NODES


def alpha_heatmap(alpha: Matrix, title: str) -> Figure:
    """Draws the weights of the candidate operations on every edge, and frames what would be derived.

    The colour scale is fixed, so that pictures of different epochs can be compared. Alpha is of one kind of cell,
    `[14 edges, 7 candidates]`; rows of the picture are edges "source→target", grouped by target node.

    Raises:
        UserError: alpha has another shape or is not finite.
    """
    weights = np.array(softmax(alpha))
    derived = derive(alpha, alpha).nodes("normal")
    figure = Figure(figsize=(6.4, 6.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    norm, colormap = colors.PowerNorm(0.5, vmin=0, vmax=1), colormaps["Blues"]
    tops = [row + 0.35 * (target - INPUTS) for row, (_, target) in enumerate(EDGES)]
    for row, (source, target) in enumerate(EDGES):
        for column, operation in enumerate(PRIMITIVES):
            weight = weights[row, column]
            square = Rectangle((column, tops[row]), 1, 1, facecolor=colormap(norm(weight)), edgecolor="white")
            axes.add_patch(square)
            ink = "white" if norm(weight) > 0.6 else "black"
            axes.text(column + 0.5, tops[row] + 0.5, f"{weight:.3f}", color=ink, ha="center", va="center", fontsize=8)
            if (operation, source) in derived[target - INPUTS]:
                corner = (column + 0.05, tops[row] + 0.05)
                axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor="#d55e00", linewidth=2, zorder=3))
    axes.set(xlim=(0, len(PRIMITIVES)), ylim=(tops[-1] + 1, 0))
    axes.set_xticks(np.arange(len(PRIMITIVES)) + 0.5, PRIMITIVES, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.array(tops) + 0.5, [f"{source}→{target}" for source, target in EDGES])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("edge (source node→target node)")
    axes.set_title(title)
    return figure


def draw_genotype(genotype: Genotype, title: str) -> Figure:
    """Draws the normal and the reduction cell as graphs from left to right.

    Nodes have the numbers that they have in the genotype: 0 and 1 are the cell's inputs, 2 to 5 are computed. Dotted
    arrows are the concatenation.
    """
    figure = Figure(figsize=(7.6, 5.8), dpi=DOTS_PER_INCH)
    figure.suptitle(title, y=0.985)
    cells: tuple[tuple[CellName, str, float], ...] = (
        ("normal", "normal cell", 0.51),
        ("reduce", "reduction cell", 0.085),
    )
    for cell, name, bottom in cells:
        axes = figure.add_axes((0.01, bottom, 0.98, 0.425))
        axes.set(xlim=(-0.75, COLUMNS[-1] + 0.75), ylim=(-LIMIT - 0.1, LIMIT + 0.1), aspect="equal")
        axes.set_axis_off()
        axes.text(0.0, 0.97, name, transform=axes.transAxes, va="top", fontsize=10, fontstyle="italic")
        _draw_cell(axes, genotype, cell)
    used = {operation for operation, _ in genotype.normal + genotype.reduce}
    colors_of = {name: candidate.color for name, candidate in CANDIDATES.items() if name in used}
    handles = [Line2D([], [], color=color, linewidth=2, label=name) for name, color in colors_of.items()]
    handles.append(Line2D([], [], color="0.55", linestyle=":", linewidth=1.5, label="concat"))
    figure.legend(handles=handles, loc="lower center", ncols=(len(handles) + 1) // 2, fontsize=8, frameon=False)
    return figure


def _draw_cell(axes: Axes, genotype: Genotype, cell: CellName) -> None:
    edges = [(source, i + INPUTS, op) for i, pairs in enumerate(genotype.nodes(cell)) for op, source in pairs]
    edges += [(node, _OUTPUT, "") for node in genotype.concat]
    places, arrows = lay_out([(source, target) for source, target, _ in edges], 2 * NODES)
    names = {0: "$c_{k-2}$\n(0)", 1: "$c_{k-1}$\n(1)", _OUTPUT: "$c_k$"}
    circles = []
    for node, (x, y) in enumerate(places):
        fill = "#eef3f8" if INPUTS <= node < _OUTPUT else "#f4efe2"
        circles.append(Circle((x, y), RADIUS, facecolor=fill, edgecolor="black", linewidth=0.9, zorder=3))
        axes.add_patch(circles[-1])
        size = 9 if node >= INPUTS else 7.5
        axes.text(x, y, names.get(node, str(node)), ha="center", va="center", fontsize=size, zorder=4, linespacing=0.9)
    for (source, target, operation), (bend, label) in zip(edges, arrows, strict=True):
        color = CANDIDATES[operation].color if operation else "0.55"
        patch = FancyArrowPatch(
            tuple(places[source]),
            tuple(places[target]),
            connectionstyle=f"arc3,rad={bend}",
            patchA=circles[source],
            patchB=circles[target],
            arrowstyle="-|>" if operation else "->",
            mutation_scale=9,
            color=color,
            linewidth=1.4 if operation else 1.1,
            linestyle="-" if operation else (0, (1, 2)),
        )
        axes.add_patch(patch)
        if operation:
            box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
            words = operation.split("_")
            text = f"{words[0]} {words[-1]}" if words[-1][0].isdigit() else words[0]
            axes.text(
                label[0], label[1], text, color=color, ha="center", va="center", fontsize=7.5, bbox=box, zorder=2.5
            )


def image_grid(images: np.ndarray, labels: Sequence[str]) -> Figure:
    """Shows a batch as the network sees it, each image with a label above it, such as its identity.

    Images are `[batch, height, width, 3]`, uint8 or float, 0 to 255; values outside are clipped.
    """
    count, height, width, _ = images.shape
    columns = min(8, count)
    rows = -(-count // columns)
    gap = max(2, width // 16)
    head = max(gap, width // 5)
    sheet = np.full((rows * (height + head) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    scale = 0.9 / width  # inches for one pixel
    figure = Figure(figsize=(sheet.shape[1] * scale, sheet.shape[0] * scale), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        top, left = (index // columns) * (height + head) + head, (index % columns) * (width + gap) + gap
        sheet[top : top + height, left : left + width] = np.clip(np.round(image), 0, 255).astype(np.uint8)
        axes.text(left + width / 2, top - 0.15 * head, label, ha="center", va="bottom", fontsize=7)
    axes.imshow(sheet, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    return figure


def to_array(figure: Figure) -> np.ndarray:
    """Draws a figure into an array of pixels for TensorBoard, uint8 `[height, width, 3]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def to_png(figure: Figure) -> bytes:
    """Draws a figure into the bytes of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as a PNG file, whole or not at all; its folder is made if there is none."""
    with files.replacing(path) as partial:
        partial.write_bytes(to_png(figure))
