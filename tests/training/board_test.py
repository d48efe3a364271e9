import unittest.mock

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.drawing import pictures
from kdas_tf.genotype import PRIMITIVES, derive
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.networks import Supernet
from kdas_tf.training.board import ArchitectureLog, Board
from kdas_tf.training.derivation import Derivation


def test_the_batch_is_drawn_once_after_the_first_epoch_with_plain_numbers_as_labels(tmp_path, monkeypatch):
    draw = unittest.mock.Mock(wraps=pictures.image_grid)
    monkeypatch.setattr(pictures, "image_grid", draw)
    board = Board(tmp_path, {"image": tf.zeros([2, 8, 4, 3]), "label": tf.constant([7, 11])})
    assert not draw.called
    board.on_epoch_end(0, {"total": 1.0, "entropies": [1.0, 2.0]})
    board.on_epoch_end(1, {"total": 0.5, "entropies": [1.0, 1.5]})
    board.on_train_end()
    assert [call.args[1] for call in draw.call_args_list] == [["7", "11"]]
    events = [
        value.tag
        for file in tmp_path.glob("events*")
        for record in tf.data.TFRecordDataset(str(file))
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    ]
    assert sorted(set(events)) == ["batch", "entropies", "total"]
    assert events.count("total") == 2 and events.count("batch") == 1


STUDENT = {"num_identities": 5, "channels": 8, "cells": 2, "reductions": (1,), "image_size": (32, 16)}


@pytest.fixture(scope="module")
def supernet():
    """A supernet that has chosen skip connections, then separable convolutions, on every edge."""
    network = Supernet(5, image_size=(32, 16), channels=4, cells=1, reductions=())
    preference = np.zeros((14, 7), "float32")
    preference[:, PRIMITIVES.index("skip_connect")] = 2.0
    preference[:, PRIMITIVES.index("sep_conv_3x3")] = 1.0
    for alpha in network.alphas:
        alpha.assign(preference)
    return network


@pytest.mark.parametrize(("max_skip", "skips"), [(None, 16), (2, 2 + 8)])  # the cap is one of the normal cell
def test_the_log_tells_entropies_skip_connections_and_parameters_of_the_current_genotype(
    supernet, tmp_path, max_skip, skips
):
    derivation, logs = Derivation(supernet, STUDENT, max_skip), {}
    ArchitectureLog(derivation, Board(tmp_path), picture_every=10).on_epoch_end(0, logs)
    weights = np.exp([0, 0, 0, 2, 1, 0, 0]) / np.exp([0, 0, 0, 2, 1, 0, 0]).sum()
    entropy = -np.sum(weights * np.log(weights))
    np.testing.assert_allclose(logs["entropies_normal"], [entropy] * 14, rtol=1e-5)
    assert logs["entropy_reduce"] == pytest.approx(entropy)
    assert logs["skip_connections"] == skips
    assert logs.get("skip_connections_uncapped") == (None if max_skip is None else 16)
    expected = derive(*(np.array(alpha) for alpha in supernet.alphas), max_skip=max_skip)
    assert derivation.genotype() == expected
    assert logs["derived_parameters"] == derived_parameters(expected, **STUDENT)
