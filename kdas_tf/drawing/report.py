"""The page about an evaluation: one HTML file that needs nothing else, no network and no script."""

import base64
import html
import io
import math
import os
from collections.abc import Mapping, Sequence

from kdas_tf import files
from kdas_tf.drawing.ranked_lists import RIGHT_MARK, WRONG_MARK, RankedQuery, Shown, thumbnail
from kdas_tf.drawing.report_style import STYLE
from kdas_tf.evaluation.printing import HEADER, Score, cells, percent, printable
from kdas_tf.evaluation.verification import Point

_THUMBNAIL = (96, 192)
_QUALITY = 80


def render(
    title: str,
    scores: Sequence[Score],
    *,
    facts: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    conventions: Sequence[str] = (),
    curves: Mapping[str, bytes] | None = None,
    verification: Sequence[Point] = (),
    ranked_lists: Mapping[str, Sequence[RankedQuery]] | None = None,
) -> str:
    """Makes the page. What is not given has no section.

    Args:
        title: heading of the page.
        scores: the results.
        facts: short facts about the run, such as data set and numbers of images.
        warnings: what a reader must know before believing the numbers.
        conventions: how it was measured, one sentence each.
        curves: {what it shows, for those who do not see it: bytes of a PNG file}.
        verification: operating points.
        ranked_lists: {heading: queries with the images nearest to them}.

    Returns:
        HTML; whatever was given is shown as text.
    """
    parts = [
        f"<h1>{_text(title)}</h1>",
        _facts(facts or {}),
        *(f'<p class="warning"><strong>Note:</strong> {_text(warning)}</p>' for warning in warnings),
        _results(scores),
        _bullets(conventions),
        _curves(curves or {}),
        _verification(verification),
        *(_ranked_lists(heading, lists) for heading, lists in (ranked_lists or {}).items() if lists),
    ]
    return _document(title, "\n".join(part for part in parts if part))


def _document(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever stands in the page, a browser loads and runs nothing.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def write(path: str | os.PathLike, page: str) -> None:
    """Writes the page atomically."""
    with files.replacing(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")


def _text(value: str) -> str:
    return html.escape(printable(value))


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first column names the lines; cells are text."""
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in values) + "</tr>"
        for name, *values in lines
    )
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="wide">{table}</div>'


def _facts(facts: Mapping[str, str]) -> str:
    items = "\n".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f"<dl>\n{items}\n</dl>" if facts else ""


def _bullets(texts: Sequence[str]) -> str:
    items = "\n".join(f"<li>{_text(text)}</li>" for text in texts)
    return f'<ul class="soft">\n{items}\n</ul>' if texts else ""


def _results(scores: Sequence[Score]) -> str:
    header = ("what was judged", HEADER[0], "mINP", *HEADER[1:])
    lines = []
    for score in scores:
        name, mean, *others = cells(score)
        lines.append((name, mean, percent(score.mINP), *others))
    return f'<h2>Results</h2>\n{_table(header, lines)}\n<p class="soft">In percent, parameters in millions.</p>'


def _curves(curves: Mapping[str, bytes]) -> str:
    pictures = "\n".join(
        f'<figure class="curve"><img src="{_data_uri("png", png)}" alt="{_text(description)}"></figure>'
        for description, png in curves.items()
    )
    return f'<h2>Curves</h2>\n<div class="curves">\n{pictures}\n</div>' if curves else ""


def _verification(points: Sequence[Point]) -> str:
    if not points:
        return ""
    lines = [(f"{point.asked:g}", percent(point.tpr), _threshold(point.threshold)) for point in points]
    header = ("false positive rate", "true positive rate, %", "largest distance")
    return (
        "<h2>Same person or not</h2>\n<p>Two photographs count as the same person when their distance is at most the "
        f"largest distance of the chosen false positive rate.</p>\n{_table(header, lines)}"
    )


def _threshold(distance: float) -> str:
    """A threshold for people; below 0 it accepts no pair, and the largest float32 number accepts all."""
    return "none" if distance < 0 else "any" if distance > 1e38 else f"{distance:.6g}"


def _ranked_lists(heading: str, lists: Sequence[RankedQuery]) -> str:
    return f"<h2>{_text(heading)}</h2>\n" + "\n".join(_ranked_list(ranked) for ranked in lists)


def _ranked_list(ranked: RankedQuery) -> str:
    first = "no match found" if ranked.first_match_rank is None else f"first match at rank {ranked.first_match_rank}"
    figures = []
    for rank, shown in enumerate(ranked.nearest, start=1):
        kind, mark = ("right", RIGHT_MARK) if shown.correct else ("wrong", WRONG_MARK)
        figures.append(f"<li>{_figure(kind, f'{rank} {mark}', shown, f'Rank {rank}, {kind}')}</li>")
    nearest = "\n".join(figures)
    return (
        f'<section class="list">\n<h3>Average precision {percent(ranked.average_precision)} %, {first}</h3>\n'
        f'{_figure("", "query", ranked.query, "Query")}\n<ol class="nearest">\n{nearest}\n</ol>\n</section>'
    )


def _figure(kind: str, mark: str, shown: Shown, words: str) -> str:
    distance = "" if math.isnan(shown.distance) else f"<br>{shown.distance:.3f}"
    buffer = io.BytesIO()
    said = f"{words}: {shown.who}, {shown.where.replace('cam', 'camera')}"
    thumbnail(shown.photograph, _THUMBNAIL, enlarge=1.0).save(buffer, "JPEG", quality=_QUALITY)
    return (
        f'<figure class="shown {kind}"><div class="mark">{mark}</div>'
        f'<img src="{_data_uri("jpeg", buffer.getvalue())}" alt="{said}">'
        f"<figcaption>{shown.who}<br>{shown.where}{distance}</figcaption></figure>"
    )


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
