import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.launcher.bindings import CONFIGS
from kdas_tf.models import saved
from kdas_tf.models.networks import Student
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.classification import ClassificationModel, Evaluation, among_first
from kdas_tf.training.devices.replicas import replicas
from kdas_tf.training.optimizers import SGD

CLASSES = 7
SIZE = (16, 16)


def make_model():
    keras.utils.set_random_seed(3)
    network = Student(genotype.DARTS_V2, CLASSES, image_size=SIZE, channels=4, cells=1, reductions=())
    configure_batch_norm(network, replicas=replicas())
    model = ClassificationModel(network, num_classes=CLASSES, label_smoothing=0.1)
    model.compile(SGD(weight_decay=3e-5)(learning_rate=0.01), jit_compile=False)
    return model


def sharpened(model):
    """Makes the network's answers differ: a new classifier says nearly the same for all images."""
    kernel = model.network.head.classifier.kernel
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    return model


def arrays(images, seed=0):
    random = np.random.default_rng(seed)
    return {
        "image": random.uniform(0, 255, (images, *SIZE, 3)).astype("float32"),
        "label": random.integers(0, CLASSES, images).astype("int32"),
    }


def judged_by_hand(logits, labels):
    """Mean cross-entropy in nats, top-1 and top-5 in percent, with numpy alone."""
    logits = np.asarray(logits, np.float64)
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    order = np.argsort(-logits, axis=1)
    hits = [100 * np.mean([label in row[:k] for label, row in zip(labels, order, strict=True)]) for k in (1, 5)]
    return [-np.mean(log_share[np.arange(len(labels)), labels]), *hits]


def test_a_class_is_among_the_first_k_as_a_sorted_list_says():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 9)).astype("float32"), random.integers(0, 9, 50)
    for k in (1, 2, 5, 9):
        expected = [100.0 * (label in np.argsort(-row)[:k]) for row, label in zip(logits, labels, strict=True)]
        np.testing.assert_array_equal(among_first(logits, labels, k), expected)


def test_a_network_that_says_the_same_for_all_classes_or_nothing_has_none_right():
    nothing = np.array([[0.0] * 6, [np.nan] * 6, [np.inf] * 6, [1, 1, 0, 0, 0, 0]], "float32")
    np.testing.assert_array_equal(among_first(nothing, np.zeros(4, "int32"), 1), [0, 0, 0, 0])
    np.testing.assert_array_equal(among_first(nothing, np.zeros(4, "int32"), 5), [0, 0, 0, 100])


def test_a_step_minimises_the_cross_entropy_to_smoothed_labels():
    model, batch = make_model(), arrays(12)
    logits = np.asarray(model.network(batch["image"], training=True).logits, np.float64)
    targets = np.full((12, CLASSES), 0.1 / CLASSES)
    targets[np.arange(12), batch["label"]] += 0.9
    expected = -np.mean(np.sum(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True))), 1))
    means = model.train_step(tf.nest.map_structure(tf.constant, batch))
    assert float(means["total"]) == pytest.approx(expected, rel=1e-5)
    _, top1, top5 = judged_by_hand(logits, batch["label"])
    assert (float(means["top1"]), float(means["top5"])) == (pytest.approx(top1), pytest.approx(top5))
    after = np.asarray(model.network(batch["image"], training=True).logits, np.float64)
    assert -np.mean(np.sum(targets * (after - np.log(np.exp(after).sum(1, keepdims=True))), 1)) < expected


def to_judge_by(images, weights, batch_size=4):
    batch = arrays(images, seed=5) | {"weight": np.asarray(weights, "float32")}
    return batch, tf.data.Dataset.from_tensor_slices(batch).batch(batch_size, drop_remainder=True)


def test_images_of_weight_zero_do_not_count():
    model = sharpened(make_model())
    batch, dataset = to_judge_by(12, [1] * 10 + [0] * 2)
    values = model.evaluate(dataset, verbose=0, return_dict=True)
    expected = judged_by_hand(model.network(batch["image"]).logits[:10], batch["label"][:10])
    assert [values[f"val_{name}"] for name in ("total", "top1", "top5")] == pytest.approx(expected, rel=1e-5)
    assert 0 < expected[2] < 100


def trained_and_judged(strategy):
    """(weights, values): after three steps, and what these and the images to judge by measured."""
    with strategy.scope():
        model = sharpened(make_model())
    train = tf.data.Dataset.from_tensors(arrays(12)).repeat(3)
    history = model.fit(train, epochs=1, steps_per_epoch=3, shuffle=False, verbose=0).history
    _, dataset = to_judge_by(12, [1] * 9 + [0] * 3)  # the replicas get five and four of weight 1
    judged = model.evaluate(dataset, verbose=0, return_dict=True)
    values = {name: float(np.squeeze(value)) for name, value in {**history, **judged}.items()}
    return {v.path: np.asarray(keras.ops.convert_to_numpy(v)) for v in model.network.variables}, values


@pytest.mark.slow
def test_two_devices_train_and_judge_as_one(tmp_path):
    """The two in a process of their own: TensorFlow's collectives confuse the strategies of one process."""
    code = f"""
import tests.conftest, json, numpy as np, tensorflow as tf
from tests.training.classification_test import trained_and_judged
weights, values = trained_and_judged(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
np.savez({str(tmp_path / "weights.npz")!r}, *weights.values())
print(json.dumps(values))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=CONFIGS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two_values = json.loads(done.stdout.splitlines()[-1])
    weights, values = trained_and_judged(tf.distribute.get_strategy())
    assert set(values) == {"total", "top1", "top5", "val_total", "val_top1", "val_top5"}
    assert two_values == pytest.approx(values, rel=1e-4)
    with np.load(tmp_path / "weights.npz") as two:
        for (path, one), other in zip(weights.items(), two.values(), strict=True):
            assert np.max(np.abs(one - other)) <= 1e-3 * np.max(np.abs(one)) + 1e-6, path


@pytest.fixture
def judged(tmp_path):
    """A model, how it is judged, and two states of its classifier: one that is right and one that is wrong."""
    model = make_model()
    batch, dataset = to_judge_by(4, [1] * 4)
    embedding = np.asarray(model.network(batch["image"]).embedding, np.float64)
    right = np.linalg.pinv(embedding) @ np.eye(CLASSES)[batch["label"]]

    def make(epochs):
        evaluation = Evaluation(model, lambda shard: dataset, folder=tmp_path, image_size=SIZE, epochs=epochs)
        evaluation.set_model(model)
        return evaluation

    return model.network.head.classifier.kernel, make, {"right": right, "wrong": -right}


def test_the_best_network_is_kept_when_later_ones_are_worse(judged, tmp_path):
    kernel, make, states = judged
    evaluation, tops = make(epochs=4), []
    for epoch, state in enumerate(("wrong", "right", "wrong", "right")):
        kernel.assign(states[state])
        logs = {"total": 1.0}
        evaluation.on_epoch_end(epoch, logs)
        tops.append(logs["val_top1"])
        assert set(logs) == {"total", "val_total", "val_top1", "val_top5"}
    assert tops == [0.0, 100.0, 0.0, 100.0]
    assert evaluation.best["epoch"] == 2
    assert json.loads((tmp_path / "best" / "best.json").read_text()) == evaluation.best
    kept = saved.load(tmp_path / "best").head.classifier.kernel
    np.testing.assert_array_equal(kept, states["right"].astype("float32"))


def test_a_continued_run_knows_the_best_network_of_before(judged):
    kernel, make, states = judged
    kernel.assign(states["right"])
    make(epochs=6).on_epoch_end(4)
    again = make(epochs=6)
    kernel.assign(states["wrong"])
    assert again.final()["top1"] == 0.0  # as after the last epoch's checkpoint
    again.on_epoch_end(5)
    assert again.best["epoch"] == 5
    assert again.best["top1"] == 100.0 and again.final() == again.last
