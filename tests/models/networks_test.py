import random
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.genotype import AUTO_REID, DARTS_V2, GDAS_V1, NAMED, Genotype, random_genotype
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.models.networks import Student, Supernet, derived_parameters

SMALL = {"image_size": (48, 24), "channels": 6, "cells": 3, "reductions": (1,)}


def images_of(size, batch=4):
    return np.random.default_rng(0).uniform(0, 255, (batch, *size, 3)).astype("float32")


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.fixture(scope="module")
def supernet():
    keras.utils.set_random_seed(0)
    return Supernet(5, **SMALL)


@pytest.fixture
def student():
    keras.utils.set_random_seed(0)
    return Student(AUTO_REID, 5, **SMALL)


@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    # Table 1 of the paper in millions; Auto-ReID as its published genotype gives it.
    [("DARTS_V2", 9.05, 9.15), ("GDAS_V1", 13.45, 13.55), ("AUTO_REID", 11.4, 11.5)],
)
def test_published_genotypes_have_the_papers_parameters(name, fewest, most):
    student = Student(NAMED[name], 751)
    assert fewest <= trainable(student) / 1e6 < most
    assert derived_parameters(NAMED[name], 751) == trainable(student)


def test_random_genotypes_have_between_5_and_17_million_parameters():
    counts = [derived_parameters(random_genotype(seed), 751) / 1e6 for seed in range(10)]
    assert min(counts) > 5
    assert max(counts) < 17
    assert len(set(counts)) == 10


@pytest.mark.parametrize(
    ("genotype", "arguments"),
    [
        (random_genotype(3), SMALL),
        (random_genotype(4), {"image_size": (65, 33), "channels": 8, "cells": 2, "reductions": (0,)}),
        (random_genotype(5), {"image_size": (64, 32), "channels": 10, "cells": 4, "reductions": (1, 2)}),
        (Genotype(GDAS_V1.normal, AUTO_REID.reduce, (3, 5)), SMALL),
        (Genotype(AUTO_REID.normal, GDAS_V1.reduce, (5,)), {**SMALL, "reductions": [0, 2]}),
        (DARTS_V2, {**SMALL, "reductions": ()}),
    ],
)
def test_parameters_are_counted_without_making_the_network(genotype, arguments):
    assert derived_parameters(genotype, 7, **arguments) == trainable(Student(genotype, 7, **arguments))


def test_counting_is_fast_enough_for_every_epoch_and_draws_no_random_numbers():
    derived_parameters(DARTS_V2, 751)
    random.seed(3)
    expected = random.random()
    random.seed(3)
    derived_parameters(DARTS_V2, 11, channels=14)  # not counted before
    assert random.random() == expected
    start = time.perf_counter()
    derived_parameters(random_genotype(99), 751)
    assert time.perf_counter() - start < 0.05


def test_a_student_returns_features_embedding_and_logits(student):
    output = student(images_of((48, 24)), training=True)
    assert isinstance(output, ReIDOutput)
    width = 4 * 2 * 6  # nodes * channels after one reduction
    assert [tuple(value.shape) for value in output] == [(4, width), (4, width), (4, 5)]
    assert np.isfinite(np.concatenate(output, -1)).all()


def test_the_papers_student_has_2048_features():
    # Channels 64, doubled three times, times four nodes.
    student = Student(DARTS_V2, 751)
    assert student.head.neck.gamma.shape == (64 * 2**3 * 4,)
    assert [cell.channels for cell in student.cells] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert student.stem.compute_output_shape((None, *student.image_size, 3)) == (None, 96, 32, 64)


@pytest.mark.parametrize("size", [(160, 60), (70, 30)])
@pytest.mark.parametrize("kind", [Student, Supernet])
def test_networks_take_images_of_odd_sizes(kind, size):
    genotype = {"genotype": AUTO_REID} if kind is Student else {}
    network = kind(num_identities=3, image_size=size, channels=4, cells=3, reductions=(0, 1), **genotype)
    output = network(images_of(size, 2), training=True)
    assert output.embedding.shape == (2, 4 * 4 * 4)
    assert np.isfinite(output.embedding).all()


def test_training_and_inference_differ(student):
    images = images_of((48, 24))
    assert np.abs(student(images, training=True).embedding - student(images).embedding).max() > 1e-2


def test_alphas_start_small_and_apart_from_the_network_weights(supernet):
    fresh = Supernet(5, **SMALL)
    alphas = np.stack(fresh.alphas)
    assert alphas.shape == (2, 14, 7)
    assert 5e-4 < alphas.std() < 2e-3
    identities = {id(v) for v in supernet.network_weights}
    assert not identities & {id(v) for v in supernet.alphas}
    assert len(identities) == len(supernet.trainable_variables) - 2


def test_every_network_weight_and_alpha_receives_a_finite_gradient(supernet):
    labels = tf.constant([0, 1, 2, 3])
    variables = [v.value for v in supernet.alphas + supernet.network_weights]
    with tf.GradientTape() as tape:
        output = supernet(images_of((48, 24)), training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, output.logits)
        loss = tf.reduce_mean(losses) + tf.reduce_mean(output.features**2)
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
    for of_alpha in gradients[:2]:
        assert (np.abs(of_alpha).max(1) > 0).all()  # on every edge


def test_normal_and_reduction_cells_read_their_own_alpha(supernet):
    images = images_of((48, 24))
    kept = [np.array(alpha) for alpha in supernet.alphas]
    before = np.array(supernet(images).features)
    for alpha in supernet.alphas:
        value = np.zeros((14, 7), np.float32)
        value[:, 3] = 3.0
        alpha.assign(value)
        after = np.array(supernet(images).features)
        assert np.abs(after - before).max() > 1e-4
        before = after
    for alpha, value in zip(supernet.alphas, kept, strict=True):
        alpha.assign(value)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_networks_compute_in_mixed_precision_with_float32_weights_and_outputs(policy):
    for network in (Student(AUTO_REID, 5, dtype=policy, **SMALL), Supernet(5, dtype=policy, **SMALL)):
        output = network(images_of((48, 24)), training=True)
        assert {value.dtype for value in output} == {tf.float32}
        assert np.isfinite(output.embedding).all()
        assert {v.dtype for v in network.variables if "seed" not in v.name} == {"float32"}


@pytest.mark.parametrize(
    "genotype", [AUTO_REID, Genotype(DARTS_V2.normal, GDAS_V1.reduce, (2, 5))], ids=["Auto-ReID", "two nodes"]
)
def test_a_saved_student_is_restored_with_the_same_outputs(genotype, tmp_path):
    student = Student(genotype, 5, **SMALL)
    images = images_of((48, 24))
    student(images, training=True)  # moves the statistics
    student.save(tmp_path / "student.keras")
    restored = keras.saving.load_model(tmp_path / "student.keras")
    assert isinstance(restored, Student)
    assert restored.genotype == genotype
    assert restored.get_config() == student.get_config()
    for before, after in zip(student(images), restored(images), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_saved_supernet_is_restored_with_its_alphas(supernet, tmp_path):
    supernet.save(tmp_path / "supernet.keras")
    restored = keras.saving.load_model(tmp_path / "supernet.keras")
    for before, after in zip(supernet.alphas, restored.alphas, strict=True):
        np.testing.assert_array_equal(before, after)
    images = images_of((48, 24))
    np.testing.assert_array_equal(supernet(images).embedding, restored(images).embedding)


@pytest.mark.slow
def test_a_saved_student_is_restored_in_a_fresh_process(student, tmp_path):
    images = images_of((48, 24))
    student.save(tmp_path / "student.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, keras, numpy, kdas_tf.models.networks; folder = sys.argv[1]\n"
        "model = keras.saving.load_model(folder + '/student.keras')\n"
        "numpy.save(folder + '/embedding.npy', model(numpy.load(folder + '/images.npy')).embedding)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), student(images).embedding, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"channels": 2}, "even number of channels from 4 on.*channels=2"),
        ({"channels": 9}, "even number of channels.*channels=9"),
        ({"image_size": (7, 64)}, r"at least 8 pixels.*\(7, 64\)"),
        ({"image_size": (64, 32, 3)}, r"\(height, width\)"),
        ({"cells": 0}, "at least one cell.*cells=0"),
        ({"reductions": (3,)}, r"positions from 0 to cells - 1.*\(3,\)"),
        ({"reductions": (1, 1)}, "distinct"),
        ({"image_size": (24, 24)}, "4 strips.*got 3.*taller images"),  # 24 / 4 / 2 rows
    ],
)
@pytest.mark.parametrize("kind", [Student, Supernet])
def test_networks_that_cannot_be_are_refused_with_the_reason(kind, bad, message):
    part_aware = (("part_aware", 0),) * 8
    genotype = {"genotype": Genotype(part_aware, part_aware)} if kind is Student else {}
    with pytest.raises(UserError, match=message):
        kind(num_identities=5, **genotype, **{**SMALL, **bad})
