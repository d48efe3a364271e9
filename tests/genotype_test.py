import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kdas_tf import genotype as g
from kdas_tf.errors import UserError

CASES = json.loads((Path(__file__).parent / "reference" / "derivation.json").read_text())["cases"]
NORMAL = g.DARTS_V2.normal


def alpha(**changes):
    """Zeros, except `edge_operation=value` such as e3_skip_connect=2.0."""
    matrix = np.zeros((14, 7))
    for key, value in changes.items():
        edge, operation = key[1:].split("_", 1)
        matrix[int(edge), g.PRIMITIVES.index(operation)] = value
    return matrix


@pytest.mark.parametrize("case", CASES)
def test_derivation_agrees_with_darts(case):
    expected = g.Genotype(case["normal"], case["reduce"])
    assert g.derive(case["alpha_normal"], case["alpha_reduce"]) == expected


def test_edges_come_in_the_order_of_darts():
    assert g.EDGES[:7] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4))
    assert len(g.EDGES) == 14


def test_ties_go_to_the_earlier_edge_and_operation():
    derived = g.derive(alpha(), alpha())
    assert derived.normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 4


def test_none_takes_weight_from_its_edge_but_is_never_chosen():
    derived = g.derive(alpha(e2_none=5.0, e3_none=5.0, e4_sep_conv_3x3=-1.0), alpha())
    assert derived.nodes("normal")[1] == (("max_pool_3x3", 2), ("max_pool_3x3", 0))


def test_max_skip_replaces_the_weakest_skips_by_the_next_best_operation():
    skips = {"e0_skip_connect": 1.0, "e3_skip_connect": 2.0, "e9_skip_connect": 3.0}
    normal = alpha(**skips, e0_part_aware=0.5, e3_none=0.9, e3_dil_conv_3x3=0.8)
    free = g.derive(normal, normal)
    assert free.skip_count() == free.skip_count("reduce") == 3
    assert g.derive(normal, normal, max_skip=3) == free
    capped = g.derive(normal, normal, max_skip=1)
    assert capped.skip_count() == 1
    assert capped.reduce == free.reduce
    assert capped.normal[0] == ("part_aware", 0)
    assert capped.normal[2] == ("dil_conv_3x3", 1)
    assert [source for _, source in capped.normal] == [source for _, source in free.normal]
    assert g.derive(normal, normal, max_skip=0).skip_count() == 0


@pytest.mark.parametrize("bad", [-1, 1.5, True, "2"])
def test_max_skip_must_be_a_whole_number(bad):
    with pytest.raises(UserError, match="max_skip"):
        g.derive(alpha(), alpha(), max_skip=bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((13, 7)), "13 rows"),
        (np.zeros((14, 8)), r"length \[8\]"),
        (None, "got None"),
        ([["a"] * 7] * 14, "14 rows"),
        (alpha(e5_none=math.nan), "finite.*edge 5"),
        (alpha(e0_none=math.inf), "finite"),
    ],
)
def test_alphas_of_another_shape_or_not_finite_are_refused_by_name(bad, message):
    with pytest.raises(UserError, match=f"alpha_reduce.*{message}"):
        g.derive(alpha(), bad)


def test_softmax_of_large_alphas_is_finite():
    weights = np.array(g.softmax(alpha(e0_none=1000.0)))
    np.testing.assert_allclose(weights[0], [1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(weights[1:], 1 / 7)


def test_entropy_is_ln_7_when_undecided_and_0_when_decided():
    # Two candidates with half the weight each: ln 2.
    values = g.entropies(alpha(e0_none=1000.0, e1_none=800.0, e1_skip_connect=800.0))
    assert values == pytest.approx([0.0, math.log(2)] + [math.log(7)] * 12)


def test_named_genotypes_are_those_published():
    assert g.load("DARTS_V2").nodes("normal")[2:] == (
        (("sep_conv_3x3", 1), ("skip_connect", 0)),
        (("skip_connect", 0), ("dil_conv_3x3", 2)),
    )
    assert g.load("GDAS_V1").nodes("reduce")[2] == (("dil_conv_5x5", 2), ("sep_conv_3x3", 1))
    assert g.load("AUTO_REID").nodes("reduce")[0] == (("max_pool_3x3", 0), ("part_aware", 1))
    assert set(g.NAMED) == {"DARTS_V2", "GDAS_V1", "AUTO_REID"}
    assert g.DARTS_V2.skip_count() == 2


def test_a_genotype_is_immutable_and_lists_become_tuples():
    made = g.Genotype([list(pair) for pair in NORMAL], list(NORMAL), range(2, 6))
    assert made == g.Genotype(NORMAL, NORMAL)
    assert hash(made) == hash(g.Genotype(NORMAL, NORMAL))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.normal = ()


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (NORMAL[:-1], "8 pairs.*got 7"),
        ("DARTS_V2", "8 pairs.*got 'DARTS_V2'"),
        ((*NORMAL[:7], ("skip_connect",)), "pairs.*position 7"),
        ((*NORMAL[:7], ("conv_7x7", 0)), "Unknown operation 'conv_7x7' at normal node 5; known are max_pool_3x3, "),
        ((*NORMAL[:7], ("none", 0)), "Unknown operation 'none'"),
        ((*NORMAL[:7], ([], 0)), "Unknown operation"),
        *(
            ((*NORMAL[:7], ("skip_connect", bad)), f"an earlier node, 0 to 4, got {bad!r}")
            for bad in (5, -1, True, "1")
        ),
    ],
)
def test_cells_that_are_none_are_refused(normal, message):
    with pytest.raises(UserError, match=message) as caught:
        g.Genotype(normal, NORMAL)
    assert caught.value.code == "content"


@pytest.mark.parametrize("concat", [(), (1, 2), (2, 6), (3, 2), (2, 2), (2.0,), 5, None, "2"])
def test_concat_must_be_ascending_intermediate_nodes(concat):
    with pytest.raises(UserError, match="concat"):
        g.Genotype(NORMAL, NORMAL, concat)


@pytest.mark.parametrize("genotype", [*g.NAMED.values(), g.random_genotype(3), g.Genotype(NORMAL, NORMAL, (3, 5))])
def test_a_file_brings_back_the_same_genotype(genotype, tmp_path):
    g.save(tmp_path / "genotype.json", genotype)
    assert g.load(tmp_path / "genotype.json") == genotype


def test_a_saved_file_holds_the_alphas_exactly_and_reads_as_lines(tmp_path):
    normal, reduce = np.float32(CASES[0]["alpha_normal"]), CASES[0]["alpha_reduce"]
    derived, origin = g.derive(normal, reduce), {"stage": "search", "epoch": 200}
    path = tmp_path / "search" / "genotype.json"
    g.save(path, derived, alpha_normal=normal, alpha_reduce=reduce, derived_from=origin)
    assert g.load(path) == g.load(str(path)) == derived
    content = json.loads(path.read_text())
    assert list(content) == ["format", "primitives", "normal", "reduce", "concat", "alphas", "derived_from"]
    assert content["primitives"] == list(g.PRIMITIVES)
    assert np.array_equal(np.float32(content["alphas"]["normal"]), normal) and content["alphas"]["reduce"] == reduce
    assert content["derived_from"] == origin
    assert '    ["avg_pool_3x3", 0],\n' in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["genotype.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "genotype.json"
    g.save(path, g.DARTS_V2)
    with pytest.raises(UserError, match="both"):
        g.save(path, g.GDAS_V1, alpha_normal=alpha())
    with pytest.raises(UserError, match=r"alpha_normal.*finite"):
        g.save(path, g.GDAS_V1, alpha_normal=alpha(e0_none=math.nan), alpha_reduce=alpha())
    with pytest.raises(TypeError):
        g.save(path, g.GDAS_V1, derived_from={"what": object()})
    assert g.load(path) == g.DARTS_V2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", "damaged", "does not parse"),
        (b"[" * 100_000, "damaged", "does not parse"),
        (b"\xed\xa0\x80", "damaged", "utf-8"),
        (b" " * 1_000_001, "damaged", "at most 1000000 bytes"),
        (b"[1]", "content", "JSON object"),
        (b"{}", "content", "normal and reduce, got only nothing"),
        (b'{"normal": []}', "content", "got only normal"),
        (b'{"format": "kdas_tf genotype 2"}', "content", "'kdas_tf genotype 1', got 'kdas_tf genotype 2'"),
        (b'{"normal": [], "reduce": [], "concatt": 1}', "content", "Unknown key 'concatt'"),
        (b'{"normal": 1, "reduce": 1}', "content", "8 pairs"),
    ],
)
def test_a_file_that_holds_no_genotype_is_named_with_its_fault(tmp_path, content, code, message):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        g.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["DARTS_V3", "", ".", "no/such/genotype.json"])
def test_an_unknown_name_is_answered_with_those_known(name):
    with pytest.raises(UserError, match=r"DARTS_V2, GDAS_V1, AUTO_REID or a genotype\.json"):
        g.load(name)


def test_random_genotypes_repeat_by_seed_and_cover_the_space():
    assert g.random_genotype(7) == g.random_genotype(7)
    drawn = [g.random_genotype(seed) for seed in range(700)]
    assert len(set(drawn)) == 700
    last_nodes = [cell for genotype in drawn for cell in (genotype.nodes("normal")[3], genotype.nodes("reduce")[3])]
    operations = Counter(operation for node in last_nodes for operation, _ in node)
    sources = Counter(tuple(source for _, source in node) for node in last_nodes)
    # 2800 operations over 6 names, 1400 nodes over 10 pairs of sources; four standard deviations.
    assert set(operations) == set(g.PRIMITIVES) - {"none"}
    assert all(abs(count - 2800 / 6) < 80 for count in operations.values())
    assert len(sources) == 10
    assert all(abs(count - 140) < 46 for count in sources.values())
