import random
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.genotype import AUTO_REID, DARTS_V2, GDAS_V1, NAMED, Genotype, random_genotype
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.models.networks import Student, Supernet, trainable_parameters

SMALL = {"image_size": (48, 24), "channels": 6, "cells": 3, "reductions": (1,)}


P_DARTS = Genotype(
    (
        *(("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4)),
    ),
    (
        *(("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2)),
        *(("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3)),
    ),
)


def images_of(size, batch=4):
    return np.random.default_rng(0).uniform(0, 255, (batch, *size, 3)).astype("float32")


@pytest.fixture(scope="module")
def supernet():
    keras.utils.set_random_seed(0)
    return Supernet(5, **SMALL)


@pytest.fixture(scope="module")
def partial_supernet():
    """A supernet of which half of the channels are mixed."""
    keras.utils.set_random_seed(0)
    return Supernet(5, partial_channels=2, **SMALL)


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
    assert fewest <= trainable_parameters(student) / 1e6 < most
    assert derived_parameters(NAMED[name], 751) == trainable_parameters(student)


@pytest.mark.parametrize(
    ("genotype", "parameters"),
    # Without auxiliary heads: what quark0/darts' train.py prints, and issue 7 of chenxin061/pdarts.
    [(DARTS_V2, 3_349_342), (P_DARTS, 3_433_798)],
    ids=["DARTS", "P-DARTS"],
)
def test_published_cifar_networks_have_their_parameters(genotype, parameters):
    ours = derived_parameters(genotype, 10, channels=36, cells=20, reductions=(6, 13), stem="cifar")
    # The head has the neck's scale, 36 * 2 * 2 * 4 features, and no offsets of the ten classes.
    assert ours == parameters + 576 - 10


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
        (Genotype(GDAS_V1.normal, AUTO_REID.reduce, (3, 5)), SMALL),
        (Genotype(AUTO_REID.normal, GDAS_V1.reduce, (5,)), {**SMALL, "reductions": [0, 2]}),
        (DARTS_V2, {**SMALL, "reductions": (), "stem": "cifar"}),
    ],
)
def test_parameters_are_counted_without_making_the_network(genotype, arguments):
    assert derived_parameters(genotype, 7, **arguments) == trainable_parameters(Student(genotype, 7, **arguments))


def test_counting_draws_no_random_numbers():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    derived_parameters(DARTS_V2, 11, channels=14)  # not counted before
    assert random.random() == expected


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


@pytest.mark.parametrize("kind", ["supernet", "partial_supernet"])
def test_every_network_weight_and_alpha_receives_a_finite_gradient(kind, request):
    supernet = request.getfixturevalue(kind)
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


def test_partial_channels_are_off_by_default_and_save_parameters(supernet, partial_supernet):
    assert supernet.partial_channels == 1
    assert partial_supernet.get_config()["partial_channels"] == 2
    assert trainable_parameters(partial_supernet) < 0.6 * trainable_parameters(supernet)
    assert partial_supernet.head.neck.gamma.shape == supernet.head.neck.gamma.shape


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


def operations_of(network):
    """Types of the operations in the graph of a training pass."""
    images = tf.TensorSpec((4, 48, 24, 3), tf.float32)
    graph = tf.function(lambda x: network(x, training=True)).get_concrete_function(images).graph
    return [operation.type for operation in graph.get_operations()]


def test_without_drop_path_nothing_is_added_to_the_network():
    plain, dropping = Student(AUTO_REID, 5, **SMALL), Student(AUTO_REID, 5, drop_path=0.2, **SMALL)
    assert plain.drop_path is None
    assert {v.path.split("/", 1)[1] for v in dropping.weights} - {v.path.split("/", 1)[1] for v in plain.weights} == {
        "drop_path/rate",
        *(v.path.split("/", 1)[1] for v in dropping.drop_path.weights if "seed" in v.path),
    }
    assert not [name for name in operations_of(plain) if "Random" in name]
    # AUTO_REID has one identity in each of the two normal cells, at stride 1: 3 * 8 - 2 draws.
    assert sum("RandomUniform" in name for name in operations_of(dropping)) == 22


def test_drop_path_changes_training_and_not_inference():
    keras.utils.set_random_seed(0)
    student = Student(AUTO_REID, 5, drop_path=0.4, **SMALL)
    images = images_of((48, 24))
    before = np.array(student(images).embedding)
    dropped = np.array(student(images, training=True).features)
    student.drop_path.rate.assign(0.0)
    whole = np.array(student(images, training=True).features)
    assert np.abs(dropped - whole).max() > 1e-2
    plain = Student(AUTO_REID, 5, **SMALL)
    extra = {id(v) for v in student.drop_path.weights}
    for target, value in zip(plain.weights, [v for v in student.weights if id(v) not in extra], strict=True):
        target.assign(value)
    np.testing.assert_array_equal(student(images).embedding, plain(images).embedding)
    np.testing.assert_allclose(plain(images, training=True).features, whole, rtol=1e-5, atol=1e-5)
    assert np.abs(before - np.array(student(images).embedding)).max() > 0  # the statistics have moved


@pytest.mark.parametrize(
    ("genotype", "arguments"),
    [(Genotype(DARTS_V2.normal, GDAS_V1.reduce, (2, 5)), {}), (AUTO_REID, {"drop_path": 0.2, "stem": "cifar"})],
    ids=["two nodes", "options"],
)
def test_a_saved_student_is_restored_with_the_same_outputs(genotype, arguments, tmp_path):
    student = Student(genotype, 5, **SMALL, **arguments)
    images = images_of((48, 24))
    student(images, training=True)  # moves the statistics
    student.save(tmp_path / "student.keras")
    restored = keras.saving.load_model(tmp_path / "student.keras")
    assert isinstance(restored, Student)
    assert restored.genotype == genotype
    assert restored.get_config() == student.get_config()
    for before, after in zip(student(images), restored(images), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", ["supernet", "partial_supernet"])
def test_a_saved_supernet_is_restored_with_its_alphas(kind, request, tmp_path):
    supernet = request.getfixturevalue(kind)
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
        ({"stem": "inet2"}, "stem to be one of inet4, cifar, got 'inet2'"),
        ({"cells": 0}, "at least one cell.*cells=0"),
        ({"reductions": (3,)}, r"positions from 0 to cells - 1.*\(3,\)"),
        ({"reductions": (-1,)}, r"positions from 0 to cells - 1.*\(-1,\)"),
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


@pytest.mark.slow
def test_a_rematerialized_supernet_has_the_loss_gradients_and_statistics_of_one_that_keeps_its_maps():
    images = keras.random.uniform((6, 32, 16, 3), maxval=255.0, seed=1)
    losses, results = [], []
    for rematerialize in (False, True):
        keras.utils.set_random_seed(3)
        supernet = Supernet(5, image_size=(32, 16), channels=8, cells=3, reductions=(1,), rematerialize=rematerialize)
        variables = [variable.value for variable in supernet.trainable_variables]

        @tf.function
        def step(supernet=supernet, variables=variables):
            with tf.GradientTape() as tape:
                output = supernet(images, training=True)
                loss = tf.reduce_sum(output.logits[:, 0]) + tf.reduce_sum(output.features**2)
            return loss, tape.gradient(loss, variables)

        loss, gradients = step()
        losses.append(loss)
        results.append(gradients + supernet.get_weights())
    assert losses[0] == losses[1]
    for kept, again in zip(*results, strict=True):
        # What several cells add to a gradient, as to that of the alphas, is added in another order.
        np.testing.assert_allclose(kept, again, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(results[1][-1], np.ones_like(results[1][-1]))
