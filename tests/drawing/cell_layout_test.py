import numpy as np
import pytest

from kdas_tf.drawing import cell_layout
from kdas_tf.genotype import NAMED, random_genotype

GENOTYPES = {**NAMED, "random 1": random_genotype(1), "random 2": random_genotype(2)}


def edges_of(genotype, cell):
    edges = [(source, node + 2) for node, pairs in enumerate(genotype.nodes(cell)) for _, source in pairs]
    return edges + [(node, 6) for node in genotype.concat]


@pytest.mark.parametrize("cell", ["normal", "reduce"])
@pytest.mark.parametrize("name", GENOTYPES)
def test_labels_keep_clear_of_one_another_and_of_the_nodes(name, cell):
    places, arrows = cell_layout.lay_out(edges_of(GENOTYPES[name], cell), 8)
    labels = np.array([label for _, label in arrows[:8]])
    apart = np.any(np.abs(labels[:, None] - labels) > (0.8, 0.25), axis=-1)
    assert apart[~np.eye(8, dtype=bool)].all()
    assert (np.linalg.norm(labels[:, None] - places, axis=-1) > cell_layout.RADIUS).all()
    assert (np.abs(labels[:, 1]) < cell_layout.LIMIT).all()
    assert np.isnan([label for _, label in arrows[8:]]).all()


def test_nodes_stand_from_left_to_right_in_their_order():
    places, _ = cell_layout.lay_out(edges_of(NAMED["DARTS_V2"], "normal"), 8)
    assert places.shape == (7, 2)
    assert (np.diff(places[1:, 0]) > 1).all()


def test_two_arrows_between_the_same_nodes_bend_apart():
    _, arrows = cell_layout.lay_out([(0, 2), (0, 2)], 2)
    assert arrows[0][0] != arrows[1][0]
