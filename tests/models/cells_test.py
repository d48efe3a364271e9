import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.genotype import AUTO_REID, EDGES, PRIMITIVES, Genotype
from kdas_tf.models.cells import EDGES_OF_GROUPS, GROUPS, DerivedCell, SupernetCell, cell_plan

SKIP = PRIMITIVES.index("skip_connect")
# Every edge with another operation of those that the supernet does not normalise otherwise than the derived network.
CONVOLUTIONS = (
    *(("sep_conv_3x3", 0), ("dil_conv_3x3", 1), ("part_aware", 2), ("skip_connect", 0)),
    *(("dil_conv_3x3", 3), ("sep_conv_3x3", 2), ("skip_connect", 4), ("part_aware", 1)),
)


@pytest.fixture
def inputs():
    """Outputs of the two previous cells."""
    return np.random.default_rng(0).normal(size=(2, 3, 8, 6, 5)).astype("float32")


def genotype_of(*pairs, **kwargs):
    return Genotype(pairs, pairs, **kwargs)


def cell_of(kind, shape, *, older_shape=None, reduction=False, after_reduction=False, **kwargs):
    cell = kind(6, reduction=reduction, after_reduction=after_reduction, **{"affine": False, **kwargs})
    cell.build(older_shape or shape, shape)
    return cell


def standardized(x):
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


def preprocessed(cell, inputs):
    """ReLU - 1x1 convolution - BN of both inputs."""
    layers = (cell.older_input, cell.newer_input)
    return [standardized(np.maximum(x, 0) @ np.array(p.kernel)[0]) for p, x in zip(layers, inputs, strict=True)]


def max_pooled_by_half(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = (x.shape[1] - 1) // 2, (x.shape[2] - 1) // 2
    windows = [[x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(columns)] for i in range(rows)]
    return np.moveaxis(np.array(windows), 2, 0)


def test_a_supernet_cell_of_identities_doubles_its_inputs_at_every_node(inputs):
    cell = cell_of(SupernetCell, inputs[0].shape)
    weights = np.eye(len(PRIMITIVES), dtype=np.float32)[[SKIP] * len(EDGES)]
    a, b = preprocessed(cell, inputs)
    # Node 2 is a + b, and every later node the sum of all before it.
    expected = np.concatenate([(a + b) * factor for factor in (1, 2, 4, 8)], -1)
    np.testing.assert_allclose(cell(*inputs, weights, training=True), expected, rtol=1e-4, atol=1e-4)


def test_a_supernet_cell_weighs_each_edge_by_its_own_row(inputs):
    cell = cell_of(SupernetCell, inputs[0].shape)
    weights = np.zeros((len(EDGES), len(PRIMITIVES)), np.float32)
    for (source, target), weight in {(0, 2): 0.5, (2, 4): 2.0, (1, 5): 3.0, (4, 5): 1.0}.items():
        weights[EDGES.index((source, target)), SKIP] = weight
    a, b = preprocessed(cell, inputs)
    expected = np.concatenate([0.5 * a, 0 * a, a, 3 * b + a], -1)
    np.testing.assert_allclose(cell(*inputs, weights, training=True), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("concat", [(2, 3, 4, 5), (3, 5)])
def test_a_derived_cell_of_identities_adds_up_the_nodes_it_names_and_concatenates_those_of_its_genotype(concat, inputs):
    skips = [("skip_connect", source) for source in (0, 1, 1, 2, 0, 3, 4, 2)]
    cell = cell_of(DerivedCell, inputs[0].shape, genotype=genotype_of(*skips, concat=concat))
    a, b = preprocessed(cell, inputs)
    # Nodes: a + b | b + (a + b) | a + (a + 2 b) | (2 a + 2 b) + (a + b)
    nodes = [a, b, a + b, a + 2 * b, 2 * a + 2 * b, 3 * a + 3 * b]
    output = cell(*inputs, training=True)
    np.testing.assert_allclose(output, np.concatenate([nodes[i] for i in concat], -1), rtol=1e-4, atol=1e-4)
    assert output.shape == cell.compute_output_shape(inputs[0].shape, inputs[0].shape)


def test_only_the_edges_from_the_inputs_of_a_reduction_cell_have_stride_two(inputs):
    pools_then_skips = genotype_of(
        *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)),
        *(("skip_connect", 3), ("skip_connect", 2), ("skip_connect", 4), ("max_pool_3x3", 0)),
    )
    cell = cell_of(DerivedCell, inputs[0].shape, genotype=pools_then_skips, reduction=True)
    a, b = (max_pooled_by_half(x) for x in preprocessed(cell, inputs))
    expected = np.concatenate([a + b, a + 2 * b, 2 * a + 3 * b, 3 * a + 3 * b], -1)
    np.testing.assert_allclose(cell(*inputs, training=True), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduction", [False, True])
def test_a_supernet_cell_with_one_operation_on_each_kept_edge_is_the_derived_cell(inputs, reduction):
    genotype = genotype_of(*CONVOLUTIONS)
    supernet = cell_of(SupernetCell, inputs[0].shape, reduction=reduction)
    derived = cell_of(DerivedCell, inputs[0].shape, reduction=reduction, genotype=genotype)
    weights = np.eye(len(PRIMITIVES), dtype=np.float32)[[PRIMITIVES.index("none")] * len(EDGES)]
    for ours, theirs in ((derived.older_input, supernet.older_input), (derived.newer_input, supernet.newer_input)):
        ours.set_weights(theirs.get_weights())
    for i, ((name, source), operation) in enumerate(zip(CONVOLUTIONS, derived.operations, strict=True)):
        edge = EDGES.index((source, 2 + i // 2))
        weights[edge] = np.eye(len(PRIMITIVES))[PRIMITIVES.index(name)]
        group = max(0, source - 1)  # the two inputs share one
        place = EDGES_OF_GROUPS[group].index(edge)
        candidate = supernet.fan_outs[group].candidates[name]
        for ours, theirs in zip(operation.trainable_variables, candidate.trainable_variables, strict=True):
            ours.assign(theirs[place : place + 1])
    np.testing.assert_allclose(
        supernet(*inputs, weights, training=True), derived(*inputs, training=True), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("size", [(8, 6), (11, 7), (16, 1)])
@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("after_reduction", [False, True])
def test_cells_bring_inputs_of_any_size_to_their_shape(size, reduction, after_reduction):
    newer = np.random.default_rng(1).normal(size=(2, *size, 8)).astype("float32")
    # Before a reduction the map was about twice as large.
    older = newer if not after_reduction else np.repeat(np.repeat(newer, 2, 1), 2, 2)[:, : 2 * size[0] - 1, :, :4]
    weights = np.full((len(EDGES), len(PRIMITIVES)), 1 / 7, np.float32)
    expected = (2, *(-(-n // (2 if reduction else 1)) for n in size), 24)
    shapes = {"older_shape": older.shape, "reduction": reduction, "after_reduction": after_reduction}
    for parts in (1, 2):
        supernet = cell_of(SupernetCell, newer.shape, partial_channels=parts, **shapes)
        assert supernet(older, newer, weights, training=True).shape == expected
    derived = cell_of(DerivedCell, newer.shape, genotype=AUTO_REID, **shapes)
    assert derived(older, newer, training=True).shape == expected
    assert derived.compute_output_shape(older.shape, newer.shape) == expected


def test_drop_path_takes_every_operation_but_the_identity(inputs):
    cell = cell_of(DerivedCell, inputs[0].shape, genotype=genotype_of(*CONVOLUTIONS))
    seen = []

    def drop_all(output, training):
        seen.append(training)
        return 0 * output

    a, _ = preprocessed(cell, inputs)
    # Only the identities are left: node 0 into node 3, and node 4, which is 0, into node 5.
    expected = np.concatenate([0 * a, a, 0 * a, 0 * a], -1)
    output = cell(*inputs, drop_path=drop_all, training=True)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    assert seen == [True] * 6


def test_drop_path_takes_the_factorised_reduce_but_no_later_identity(inputs):
    skips = genotype_of(*(("skip_connect", source) for source in (0, 1, 1, 2, 0, 3, 4, 2)))
    cell = cell_of(DerivedCell, inputs[0].shape, genotype=skips, reduction=True)
    seen = []
    cell(*inputs, drop_path=lambda output, training: seen.append(output.shape) or output, training=True)
    assert seen == [(3, 4, 3, 6)] * 4  # of the eight edges, those from the two inputs


def shuffled(x, groups):
    """PC-DARTS' `channel_shuffle` as it is written there: view, transpose, flatten."""
    return np.swapaxes(x.reshape(*x.shape[:-1], groups, -1), -1, -2).reshape(x.shape)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("reduction", [False, True])
def test_a_cell_of_partial_channels_is_the_sum_over_edges_as_in_pc_darts(inputs, parts, reduction):
    cell = SupernetCell(12, reduction=reduction, after_reduction=False, affine=False, partial_channels=parts)
    cell.build(inputs[0].shape, inputs[0].shape)
    weights = np.random.default_rng(2).dirichlet(np.ones(len(PRIMITIVES)), len(EDGES)).astype("float32")
    nodes, size = preprocessed(cell, inputs), 12 // parts
    for target in range(2, 6):
        node = 0
        for source in range(target):
            x = nodes[source].astype("float32")
            group = max(0, source - 1)  # the two inputs share one
            sources, edges = np.stack([nodes[i] for i in GROUPS[group]]).astype("float32"), EDGES_OF_GROUPS[group]
            mixed = cell.fan_outs[group](sources[..., :size], weights[edges], training=True)
            mixed = np.array(mixed[edges.index(EDGES.index((source, target)))])
            beside = x[..., size:]
            if reduction and source < 2:
                beside = beside.reshape(3, 4, 2, 3, 2, -1).max((2, 4))
            node = node + shuffled(np.concatenate([mixed, beside], -1), parts)
        nodes.append(node)
    output = cell(*inputs, weights, training=True)
    np.testing.assert_allclose(output, np.concatenate(nodes[2:], -1), rtol=1e-3, atol=1e-3)


def test_partial_channels_that_leave_too_few_are_refused():
    with pytest.raises(UserError, match="partial_channels=4 for 8 channels"):
        SupernetCell(8, reduction=False, after_reduction=False, affine=False, partial_channels=4)


@pytest.mark.parametrize(
    ("kind", "arguments"), [(SupernetCell, {"partial_channels": 2}), (DerivedCell, {"genotype": AUTO_REID})]
)
def test_a_cell_made_from_its_config_is_the_same(kind, arguments):
    cell = kind(6, reduction=True, after_reduction=True, affine=True, dtype="mixed_bfloat16", **arguments)
    restored = kind.from_config(cell.get_config())
    assert restored.get_config() == cell.get_config()
    assert restored.older_input.stride == 2


def test_channels_double_at_each_reduction():
    plan = cell_plan(8, (2, 4, 6), 32)
    assert [cell["channels"] for cell in plan] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert [i for i, cell in enumerate(plan) if cell["reduction"]] == [2, 4, 6]
    assert [i for i, cell in enumerate(plan) if cell["after_reduction"]] == [3, 5, 7]
