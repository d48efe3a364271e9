"""Cells as plain data: the search space's names, genotypes, their JSON file, and how alphas become a genotype.

Follows the conventions of DARTS (Liu et al., 2019; https://github.com/quark0/darts): node 0 is the output of the cell
before the previous one (c_{k-2}), node 1 that of the previous cell (c_{k-1}), nodes 2 to 5 are computed in the cell.
"""

import dataclasses
import functools
import json
import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kdas_tf import files
from kdas_tf.candidates import CANDIDATES
from kdas_tf.errors import UserError

PRIMITIVES = ("none", *(name for name, candidate in CANDIDATES.items() if candidate.searched))
"""The candidate operations of one edge, in the order of the columns of alpha."""

OPERATIONS = (*PRIMITIVES[1:], *(name for name, candidate in CANDIDATES.items() if not candidate.searched))
"""What a genotype may use: the primitives without none, and what is not searched."""

INPUTS = 2
NODES = 4
"""Inputs and intermediate nodes of one cell."""

EDGES = tuple((source, target) for target in range(INPUTS, INPUTS + NODES) for source in range(target))
"""(source, target) of the 14 edges, in the order of the rows of alpha."""

FORMAT = "kdas_tf genotype 1"
MAX_FILE_BYTES = 1_000_000
_KEYS = ("format", "primitives", "normal", "reduce", "concat", "alphas", "derived_from")

CellName = Literal["normal", "reduce"]
Pair = tuple[str, int]
Matrix = Iterable[Iterable[float]]

_content_error = functools.partial(UserError, code="content")


@dataclasses.dataclass(frozen=True)
class Genotype:
    """The operations of a normal and of a reduction cell.

    Lists are accepted wherever tuples are named, so that values read from JSON, gin or a Keras config can be passed on.

    Raises:
        UserError: the pairs or the concatenated nodes do not describe a cell.
    """

    normal: tuple[Pair, ...]  # (operation, source node), two for each intermediate node, in the nodes' order
    reduce: tuple[Pair, ...]
    concat: tuple[int, ...] = tuple(range(INPUTS, INPUTS + NODES))  # whose outputs are the cell's output, ascending

    def __post_init__(self) -> None:
        object.__setattr__(self, "normal", _checked_pairs("normal", self.normal))
        object.__setattr__(self, "reduce", _checked_pairs("reduce", self.reduce))
        object.__setattr__(self, "concat", _checked_concat(self.concat))

    def nodes(self, cell: CellName) -> tuple[tuple[Pair, Pair], ...]:
        """Groups a cell's pairs by the node they enter: item i holds the two pairs of node i + 2."""
        pairs = {"normal": self.normal, "reduce": self.reduce}[cell]
        return tuple((pairs[2 * i], pairs[2 * i + 1]) for i in range(NODES))

    def skip_count(self, cell: CellName = "normal") -> int:
        """Counts the skip connections of a cell; many of them are the sign of a collapsed search."""
        return sum(operation == "skip_connect" for pair in self.nodes(cell) for operation, _ in pair)

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Reads the text of a genotype.json file, of which only normal and reduce are required.

        Raises:
            UserError: the text is not JSON or does not describe a genotype.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            message = f"Expected a genotype as JSON, got text that does not parse: {error}."
            raise UserError(message, code="damaged") from None
        if not isinstance(content, dict):
            raise _content_error(f"Expected a JSON object with normal and reduce, got {_short(content)}.")
        if content.get("format", FORMAT) != FORMAT:
            raise _content_error(f"Expected format {FORMAT!r}, got {_short(content['format'])}.")
        unknown = sorted(set(content) - set(_KEYS))
        if unknown:
            raise _content_error(f"Unknown key {_short(unknown[0])}; a genotype may have {', '.join(_KEYS)}.")
        if "normal" not in content or "reduce" not in content:
            given = ", ".join(content) or "nothing"
            raise _content_error(f"Expected a genotype with normal and reduce, got only {given}.")
        return cls(**{key: content[key] for key in ("normal", "reduce", "concat") if key in content})


def softmax(alpha: Matrix, name: str = "alpha") -> list[list[float]]:
    """Weights of the candidate operations on every edge: the softmax of every row.

    Args:
        alpha: `[14 edges, 7 candidates]`, nested sequences or an array.
        name: of the matrix, for an error.

    Raises:
        UserError: alpha has another shape or a value that is not finite.
    """
    weights = []
    for row in _checked_matrix(alpha, name):
        exponentials = [math.exp(value - max(row)) for value in row]
        total = math.fsum(exponentials)  # exact, so that rows with the same values in another order tie
        weights.append([value / total for value in exponentials])
    return weights


def entropies(alpha: Matrix) -> list[float]:
    """Entropy in nats of the operations' weights on each of the 14 edges: ln 7 = 1.95 is undecided, 0 is decided."""
    return [-math.fsum(weight * math.log(weight) for weight in row if weight) for row in softmax(alpha)]


def derive(alpha_normal: Matrix, alpha_reduce: Matrix, *, max_skip: int | None = None) -> Genotype:
    """Derives the genotype from architecture parameters as DARTS does (quark0/darts, `Network.genotype`).

    Every node keeps the two incoming edges whose best operation, none left out, has the largest softmax weight, the
    larger first, and every edge its best operation. Ties go to the earlier edge and the earlier operation.

    Args:
        alpha_normal: of the normal cells, as in `softmax`.
        alpha_reduce: of the reduction cells.
        max_skip: at most so many skip connections in the normal cell: those with the smallest weights are replaced by
            the next best operation of their edge. No limit by default, as in the paper.

    Raises:
        UserError: as in `softmax`, or max_skip is not a whole number >= 0.
    """
    if max_skip is not None and (not _is_int(max_skip) or max_skip < 0):
        raise UserError(f"Expected max_skip to be None or a whole number >= 0, got {_short(max_skip)}.")
    normal, reduce = softmax(alpha_normal, "alpha_normal"), softmax(alpha_reduce, "alpha_reduce")
    return Genotype(_derive_cell(normal, max_skip), _derive_cell(reduce, None))


def _derive_cell(weights: list[list[float]], max_skip: int | None) -> tuple[Pair, ...]:
    best = [_best_operation(row) for row in weights]
    kept = []
    for target in range(INPUTS, INPUTS + NODES):
        incoming = [edge for edge, (_, end) in enumerate(EDGES) if end == target]
        kept += sorted(incoming, key=lambda edge: -weights[edge][best[edge]])[:2]
    if max_skip is not None:
        skip = PRIMITIVES.index("skip_connect")
        skips = sorted((edge for edge in kept if best[edge] == skip), key=lambda edge: (-weights[edge][skip], edge))
        for edge in skips[max_skip:]:
            best[edge] = _best_operation(weights[edge], but=skip)
    return tuple((PRIMITIVES[best[edge]], EDGES[edge][0]) for edge in kept)


def _best_operation(row: Sequence[float], but: int | None = None) -> int:
    choices = [index for index, name in enumerate(PRIMITIVES) if name != "none" and index != but]
    return max(choices, key=lambda index: row[index])


def random_genotype(seed: int) -> Genotype:
    """Draws a genotype uniformly from the search space, the control that any search has to beat.

    Nodes have two different sources, edges any operation but none. A seed gives the same genotype on every machine.
    """
    generator = random.Random(seed)
    cells = []
    for _ in range(2):
        pairs: list[Pair] = []
        for target in range(INPUTS, INPUTS + NODES):
            sources = sorted(generator.sample(range(target), 2))
            pairs += [(generator.choice(PRIMITIVES[1:]), source) for source in sources]
        cells.append(tuple(pairs))
    return Genotype(cells[0], cells[1])


def save(
    path: str | os.PathLike[str],
    genotype: Genotype,
    *,
    alpha_normal: Matrix | None = None,
    alpha_reduce: Matrix | None = None,
    derived_from: Mapping[str, Any] | None = None,
) -> None:
    """Writes a genotype.json file; whoever reads the path sees the whole file or none.

    Args:
        path: the file; its folder is made if there is none.
        genotype: what to write.
        alpha_normal: what it was derived from, as in `derive`.
        alpha_reduce: likewise; both or neither.
        derived_from: where they come from, anything that JSON can hold.

    Raises:
        UserError: only one alpha is given, or as in `softmax`.
    """
    content = {"format": FORMAT, "primitives": PRIMITIVES, **dataclasses.asdict(genotype)}
    if (alpha_normal is None) != (alpha_reduce is None):
        raise UserError("Expected both alpha_normal and alpha_reduce, or neither; got one of them.")
    if alpha_normal is not None and alpha_reduce is not None:
        normal, reduce = _checked_matrix(alpha_normal, "alpha_normal"), _checked_matrix(alpha_reduce, "alpha_reduce")
        content["alphas"] = {"normal": normal, "reduce": reduce}
    if derived_from is not None:
        content["derived_from"] = dict(derived_from)
    with files.replacing(path) as partial:
        partial.write_text(_format(content) + "\n", encoding="utf-8")


def load(name_or_path: str | os.PathLike[str]) -> Genotype:
    """Finds a genotype by its name in `NAMED`, or reads it from a genotype.json file.

    Raises:
        UserError: there is neither such a name nor such a file, or the file holds no genotype.
    """
    if name_or_path in NAMED:
        return NAMED[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise UserError(
            f"Expected one of {', '.join(NAMED)} or a genotype.json file, got {str(name_or_path)!r}.", code="choice"
        )
    try:
        with files.open_file(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UserError(f"Expected at most {MAX_FILE_BYTES} bytes, this file is larger.", code="damaged")
        return Genotype.from_json(data.decode("utf-8"))
    except (UserError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: {error}", code=getattr(error, "code", "damaged")) from None


def _checked_pairs(cell: str, pairs: Any) -> tuple[Pair, ...]:
    wanted = f"{cell} to be {2 * NODES} pairs (operation, source node), two for each of {NODES} nodes"
    if not isinstance(pairs, (list, tuple)):
        raise _content_error(f"Expected {wanted}, got {_short(pairs)}.")
    if len(pairs) != 2 * NODES:
        raise _content_error(f"Expected {wanted}, got {len(pairs)}.")
    for index, pair in enumerate(pairs):
        node = INPUTS + index // 2
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _content_error(f"Expected {wanted}, got {_short(pair)} at position {index}.")
        operation, source = pair
        if operation not in OPERATIONS:
            known = ", ".join(OPERATIONS)
            raise _content_error(f"Unknown operation {_short(operation)} at {cell} node {node}; known are {known}.")
        if not _is_int(source) or not 0 <= source < node:
            raise _content_error(
                f"Expected the source of {operation} at {cell} node {node} to be an earlier node, "
                f"0 to {node - 1}, got {_short(source)}."
            )
    return tuple((str(operation), int(source)) for operation, source in pairs)


def _checked_concat(concat: Any) -> tuple[int, ...]:
    first, last = INPUTS, INPUTS + NODES - 1
    valid = isinstance(concat, (list, tuple, range)) and all(_is_int(node) and first <= node <= last for node in concat)
    if not valid or not concat or list(concat) != sorted(set(concat)):
        raise _content_error(f"Expected concat to be ascending nodes from {first} to {last}, got {_short(concat)}.")
    return tuple(concat)


def _checked_matrix(alpha: Matrix, name: str) -> list[list[float]]:
    wanted = f"{name} to be {len(EDGES)} rows (edges) of {len(PRIMITIVES)} numbers (candidate operations)"
    try:
        matrix = [[float(value) for value in row] for row in alpha]
    except (TypeError, ValueError, OverflowError):
        raise _content_error(f"Expected {wanted}, got {_short(alpha)}.") from None
    lengths = sorted({len(row) for row in matrix})
    if len(matrix) != len(EDGES) or lengths != [len(PRIMITIVES)]:
        raise _content_error(f"Expected {wanted}, got {len(matrix)} rows of length {lengths}.")
    for edge, row in enumerate(matrix):
        if not all(map(math.isfinite, row)):
            raise UserError(f"Expected {name} to be finite, got {row} on edge {edge}; the search has diverged.")
    return matrix


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _format(value: Any, indent: str = "") -> str:
    """JSON with a line for each innermost list, so that people can read and compare the files."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{json.dumps(str(key))}: {_format(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, (list, tuple, dict)) for item in value):
        return "[\n" + ",\n".join(inner + _format(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def _pairs(cell: str) -> tuple[Pair, ...]:
    short = {"max": "max_pool_3x3", "skip": "skip_connect", "part": "part_aware"}
    short |= {f"{name}{k}": f"{name}_conv_{k}x{k}" for name in ("sep", "dil") for k in (3, 5)}
    words = cell.replace("|", " ").split()
    return tuple((short[operation], int(source)) for operation, source in zip(words[::2], words[1::2], strict=True))


DARTS_V2 = Genotype(
    _pairs("sep3 0 sep3 1 | sep3 0 sep3 1 | sep3 1 skip 0 | skip 0 dil3 2"),
    _pairs("max 0 max 1 | skip 2 max 1 | max 0 skip 2 | skip 2 max 1"),
)
"""DARTS, second order (quark0/darts, `genotypes.py`)."""

GDAS_V1 = Genotype(
    _pairs("skip 0 skip 1 | skip 0 sep5 2 | sep3 3 skip 0 | sep5 4 sep3 3"),
    _pairs("sep5 0 sep3 1 | sep5 2 sep5 1 | dil5 2 sep3 1 | sep5 0 sep5 1"),
)
"""GDAS (Dong and Yang, 2019; D-X-Y/AutoDL-Projects)."""

AUTO_REID = Genotype(
    _pairs("sep3 0 skip 1 | dil3 2 dil3 0 | dil3 3 sep3 2 | dil3 4 dil3 3"),
    _pairs("max 0 part 1 | sep3 0 dil3 2 | dil3 2 max 0 | dil3 4 dil3 3"),
)
"""Auto-ReID (Quan et al., 2019)."""

NAMED = {"DARTS_V2": DARTS_V2, "GDAS_V1": GDAS_V1, "AUTO_REID": AUTO_REID}
"""The published genotypes that `load` knows by name."""
