import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.genotype import AUTO_REID, DARTS_V2, EDGES, PRIMITIVES, derive, random_genotype
from kdas_tf.models.networks import Supernet
from kdas_tf.training.derivation import Derivation
from kdas_tf.training.discretization import DiscretizationLog, accuracy, discrete_alphas


@pytest.fixture(scope="module")
def supernet():
    keras.utils.set_random_seed(1)
    return Supernet(5, image_size=(32, 16), channels=6, cells=2, reductions=(1,))


@pytest.fixture(scope="module")
def batches():
    random = np.random.default_rng(0)
    return [
        {
            "image": random.uniform(0, 255, (40, 32, 16, 3)).astype("float32"),
            "label": random.integers(0, 5, 40).astype("int32"),
        }
        for _ in range(2)
    ]


STRATEGY = tf.distribute.get_strategy()


@pytest.mark.parametrize("genotype", [DARTS_V2, AUTO_REID, random_genotype(3)])
def test_discrete_alphas_mix_the_operations_of_the_genotype_and_nothing_else(genotype):
    for alphas, pairs in zip(discrete_alphas(genotype), (genotype.normal, genotype.reduce), strict=True):
        weights = keras.ops.convert_to_numpy(keras.ops.softmax(keras.ops.convert_to_tensor(alphas), -1))
        assert np.all((weights == 0) | (weights >= np.float32(1 - 2**-24)))  # some processors round 1 / 1 down
        mixed = {(EDGES[row], PRIMITIVES[column]) for row, column in zip(*np.nonzero(weights), strict=True)}
        kept = {((source, 2 + place // 2), operation) for place, (operation, source) in enumerate(pairs)}
        assert mixed - {(edge, "none") for edge in EDGES} == kept
        assert len(mixed) == 14
    again = derive(*discrete_alphas(genotype))
    assert [set(node) for node in again.nodes("normal")] == [set(node) for node in genotype.nodes("normal")]


def test_accuracy_is_what_the_supernet_with_these_alphas_says_of_each_batch(supernet, batches):
    before = [np.array(variable) for variable in supernet.variables]
    plain = accuracy(supernet, batches, strategy=STRATEGY)
    alphas = discrete_alphas(random_genotype(0))
    derived = accuracy(supernet, batches, strategy=STRATEGY, alphas=alphas)
    for variable, value in zip(supernet.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)

    def expected():  # the alphas in place, and the moving statistics lost
        shares = [
            np.mean(np.argmax(supernet(batch["image"], training=True).logits, -1) == batch["label"])
            for batch in batches
        ]
        return np.mean(shares)

    assert plain == pytest.approx(expected())
    for variable, value in zip(supernet.alphas, alphas, strict=True):
        variable.assign(value)
    assert derived == pytest.approx(expected())
    assert plain != derived


def test_the_drop_is_logged_now_and_then_and_after_the_last_epoch(supernet, batches):
    log, derived = DiscretizationLog(Derivation(supernet, {}), batches, every=2, epochs=3), DARTS_V2
    log.set_model(supernet)
    for variable, value in zip(supernet.alphas, discrete_alphas(derived), strict=True):
        variable.assign(value / 100)  # they prefer the genotype, and mix all operations
    logs = [{} for _ in range(3)]
    for epoch, each in enumerate(logs):
        log.on_epoch_end(epoch, each)
    assert [sorted(each) for each in logs] == [[], *[["val_accuracy", "val_accuracy_derived"]] * 2]
    assert logs[2]["val_accuracy"] == accuracy(supernet, batches, strategy=STRATEGY)
    discrete = accuracy(supernet, batches, strategy=STRATEGY, alphas=discrete_alphas(derived))
    assert logs[2]["val_accuracy_derived"] == discrete
