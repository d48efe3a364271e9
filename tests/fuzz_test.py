"""Whatever people type or have in files: a parser gives a result or refuses in one line."""

import contextlib
import dataclasses
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gin import config as gin
from kdas_tf import genotype as g
from kdas_tf.data import market1501
from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings

QUICK = settings(max_examples=60, deadline=None, database=None, derandomize=True)
SLOW = settings(QUICK, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=8) | st.sampled_from(g.OPERATIONS),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
pairs = st.tuples(st.sampled_from([*g.OPERATIONS, "none", "conv"]), st.integers(-1, 5)) | values
cells = st.lists(pairs, min_size=7, max_size=9) | values
genotypes = st.fixed_dictionaries({"normal": cells, "reduce": cells}, optional={"concat": values})
valid_cells = st.tuples(
    *(st.tuples(st.sampled_from(g.OPERATIONS), st.integers(0, node - 1)) for node in (2, 2, 3, 3, 4, 4, 5, 5))
)


def result_of(parser, *arguments):
    """What a parser gives; None where it refuses, which is one line of a known kind."""
    try:
        return parser(*arguments)
    except UserError as error:
        assert error.code and "\n" not in str(error) and len(str(error)) < 2000
        return None


@QUICK
@given(st.text() | genotypes.map(json.dumps))
def test_a_genotype_is_read_or_refused(text):
    genotype = result_of(g.Genotype.from_json, text)
    assert genotype is None or g.Genotype.from_json(json.dumps(dataclasses.asdict(genotype))) == genotype


@QUICK
@given(valid_cells, valid_cells, st.binary(max_size=3), st.integers(0, 10_000))
def test_a_genotype_file_with_bytes_put_into_it_is_read_or_refused(normal, reduce, put, place):
    whole = json.dumps({"normal": normal, "reduce": reduce}).encode()
    place %= len(whole)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genotype.json"
        path.write_bytes(whole[:place] + put + whole[place:])
        assert result_of(g.load, path) or put


WORDS = ("search.run.epochs", "SEARCH_EPOCHS", "temperature", "@schedules.linear_temperature", "%CELLS", "1", "-2.5")
WORDS += ("=", " = ", "'", '"', "(", ")", "[", "]", "{", "}", ",", ":", "\n", "#", "/", ".", "@", "%", "include ", "\\")


@pytest.mark.usefixtures("as_before")
@SLOW
@example("SEARCH_EPOCHS\n")
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8).map("".join))
def test_an_override_is_bound_or_refused(text):
    gin.clear_config()
    result_of(bindings.parse, ["gin/search.gin", "gin/scale/tiny.gin"], [text], {})


NAMES = st.lists(st.sampled_from(("0002", "-1", "_", "c1", "s1", "000451", ".jpg", ".JPG", ".png", "c", "²", "9" * 30)))


@SLOW
@given(st.lists((NAMES.map("".join) | st.text(max_size=30)).map(lambda name: name + ".jpg"), max_size=6, unique=True))
def test_every_image_is_a_record_or_is_left_out_with_a_reason(names):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bounding_box_train"
        folder.mkdir()
        for name in names:
            with contextlib.suppress(OSError, ValueError):  # no name of a file, or too long
                (folder / name).touch()
        data = result_of(market1501.read, temporary)
        if data is not None:
            read = [os.path.basename(path) for path in (*(record.path for record in data.train), *dict(data.skipped))]
            assert sorted(read) == sorted(name for name in os.listdir(folder) if not name.startswith("."))
            assert all(record.identity > 0 and record.camera >= 0 for record in data.train)
