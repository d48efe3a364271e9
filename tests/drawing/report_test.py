import base64
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kdas_tf.drawing import curves, report
from kdas_tf.drawing.pictures import to_png
from kdas_tf.drawing.ranked_lists import RankedQuery, Shown
from kdas_tf.evaluation.printing import Score
from kdas_tf.evaluation.verification import Point

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, tables as lists, text; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


SCORES = [
    Score("student", 0.853, 0.947, 0.98, 0.991, 14_300_000, 0.123),
    Score("re-ranked", 0.9, 0.95, 0.97, 0.98, None, math.nan),
]


@pytest.fixture
def lists(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (160, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    photograph = tmp_path / "photograph.png"
    nearest = [Shown(photograph, 12, 4, 0.2314, True), Shown(photograph, 0, 5, 0.4, False)]
    return {"Best queries": [RankedQuery(Shown(photograph, 12, 3), nearest, 0.75, 1)], "Worst queries": []}


@pytest.fixture
def page(lists):
    return report.render(
        "Student on Market-1501",
        SCORES,
        facts={"gallery": "15,913 images"},
        warnings=["Only a part of the data set."],
        conventions=["AP: step"],
        curves={"CMC: 90 % at rank 1": to_png(curves.cmc_curve({"student": [0.9, 1.0]}))},
        verification=[Point(1e-3, 0.4123611, 9e-4, 0.8312), Point(1e-4, -1e-45, 0, 0), Point(1, 3.4e38, 1, 1)],
        ranked_lists=lists,
    )


def test_the_page_holds_the_results_in_the_columns_of_the_paper(page):
    results, verification = Page(page).tables
    assert results == [
        ["what was judged", "mAP", "mINP", "Rank-1", "Rank-5", "Rank-10", "Params (M)"],
        ["student", "85.3", "12.3", "94.7", "98.0", "99.1", "14.3"],
        ["re-ranked", "90.0", "-", "95.0", "97.0", "98.0", "-"],
    ]
    assert verification[1:] == [["0.001", "83.1", "0.412361"], ["0.0001", "0.0", "none"], ["1", "100.0", "any"]]


def test_the_page_needs_nothing_else(page):
    found = Page(page)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in found.elements}
    assert all(image["src"].startswith("data:image/") for image in found.all("img"))
    assert not re.search(r"https?:|url\(|@import|\son\w+=", page)
    assert not [name for _, attributes in found.elements for name in attributes if name in ("href", "srcset", "action")]


def test_headings_of_tables_have_a_scope_and_pictures_a_description(page):
    found = Page(page)
    assert {cell["scope"] for cell in found.all("th")} == {"col", "row"}
    assert [image["alt"] for image in found.all("img")] == [
        "CMC: 90 % at rank 1",
        "Query: id 12, camera 3",
        "Rank 1, right: id 12, camera 4",
        "Rank 2, wrong: distractor, camera 5",
    ]
    assert found.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.all("meta")


def test_photographs_are_small_and_can_be_decoded(page):
    images = [image["src"].partition("base64,")[2] for image in Page(page).all("img")]
    pictures = [Image.open(io.BytesIO(base64.b64decode(image, validate=True))) for image in images]
    assert [picture.format for picture in pictures] == ["PNG", "JPEG", "JPEG", "JPEG"]
    assert {picture.size for picture in pictures[1:]} == {(64, 160)}
    assert max(len(image) for image in images[1:]) < 20_000  # noise, which compresses worst


def test_right_and_wrong_have_marks_and_distances_and_an_empty_list_has_no_heading(page):
    words = Page(page).words
    assert {"1 ✓", "2 ✗", "0.231", "0.400", "Average precision 75.0 %, first match at rank 1"} <= set(words)
    assert "Best queries" in words
    assert "Worst queries" not in words


EVIL = "<script>alert('1')</script>\"&amp;\n"


def test_whatever_data_are_called_is_shown_as_text(lists):
    page = report.render(
        EVIL,
        [Score(EVIL, 0.5, 0.5, 0.5, 0.5, None, 0.5)],
        facts={EVIL: EVIL},
        warnings=[EVIL],
        conventions=[EVIL],
        curves={EVIL: b""},
        ranked_lists={EVIL: lists["Best queries"]},
    )
    found = Page(page)
    assert "<script" not in page
    shown = "<script>alert('1')</script>\"&amp;"
    assert sum(shown in word for word in found.words) == 8  # title twice, fact twice
    assert found.all("img")[0]["alt"].startswith(shown)


def test_what_is_not_given_has_no_section():
    headings = re.findall(r"<h2>(.*?)</h2>", report.render("t", SCORES))
    assert headings == ["Results"]


def test_a_name_that_is_not_unicode_can_be_written(tmp_path):
    path = tmp_path / "evaluate" / "report.html"
    report.write(path, report.render("t", SCORES, facts={"folder": "caf\udce9 \N{SNOWMAN}"}))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert "\N{SNOWMAN}" in path.read_text(encoding="utf-8")


def test_dark_light_phone_and_paper_are_provided_for():
    (style,) = re.findall(r"<style>(.*)</style>", report.render("t", []), re.DOTALL)
    assert style.count("{") == style.count("}")
    for condition in ("(prefers-color-scheme: dark)", "(max-width: 40rem)", "print"):
        assert f"@media {condition} {{" in style
    used = set(re.findall(r"var\((--[\w-]+)\)", style))
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert used == set(re.findall(r"(--[\w-]+):", light))
    assert used == set(re.findall(r"(--[\w-]+):", dark))
