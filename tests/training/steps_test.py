import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.genotype import random_genotype
from kdas_tf.losses.objective import Objective
from kdas_tf.losses.regularizers import beta_decay
from kdas_tf.models.heads import ReIDHead, ReIDOutput
from kdas_tf.models.networks import Supernet
from kdas_tf.models.teacher_network import TeacherTable
from kdas_tf.space.mixed import MixedFanOut
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.callbacks import Scheduled
from kdas_tf.training.devices.replicas import gather, replicas
from kdas_tf.training.discretization import accuracy, discrete_alphas
from kdas_tf.training.optimizers import SGD, Adam
from kdas_tf.training.stabilizers import AlphaWarmup
from kdas_tf.training.steps import SearchModel

IDENTITIES = 6
SIZE = (32, 16)


def batch(seed, identities=4, images=4):
    random = np.random.default_rng(seed)
    labels = np.repeat(random.permutation(IDENTITIES)[:identities], images)
    # The replicas' halves must differ in identities: only mining across them finds the hardest negatives.
    return {
        "image": random.uniform(0, 255, (len(labels), *SIZE, 3)).astype("float32"),
        "label": labels.astype("int32"),
        "index": np.arange(len(labels), dtype="int32"),
    }


def search_model(temperature, seed=3, penalty=None, **kwargs):
    keras.utils.set_random_seed(seed)
    supernet = Supernet(IDENTITIES, image_size=SIZE, channels=6, cells=2, reductions=(1,))
    configure_batch_norm(supernet, replicas=replicas())
    table = np.random.default_rng(0).normal(size=(16, IDENTITIES)).astype("float32")
    model = SearchModel(supernet, TeacherTable(table), Objective(**kwargs), num_identities=IDENTITIES, penalty=penalty)
    # Small steps: float32's noise doubles with each of a large step in a network this young.
    model.compile(SGD()(learning_rate=0.005), Adam()(learning_rate=0.002), jit_compile=False)
    model.temperature.assign(temperature)
    return model


class SmallSupernet(keras.Model):
    """What a supernet is made of, once: all candidates on three edges at stride 2, their alphas, the head."""

    def __init__(self):
        super().__init__()
        self.mixed = MixedFanOut(6, edges=3, stride=2)
        self.mixed.build((None, *SIZE, 6))
        self.alpha = self.add_weight(name="alpha", shape=(3, 7), initializer=keras.initializers.RandomNormal(1e-3))
        self.head = ReIDHead(IDENTITIES)
        self.head.build((None, 16, 8, 6))
        self.built = True

    def call(self, images, training=False):
        x = keras.ops.cast(images, self.compute_dtype) / 255.0
        x = keras.ops.concatenate([x, x * x], -1)
        return self.head(keras.ops.sum(self.mixed(x, keras.ops.softmax(self.alpha), training=training), 0))

    @property
    def alphas(self):
        return [self.alpha]

    @property
    def network_weights(self):
        return [*self.mixed.trainable_variables, *self.head.trainable_variables]


def run(strategy, steps=20):
    """Half of the steps at T = 1.5, with the teacher, and half at T = 0, with the labels; the alphas have a penalty."""
    keras.utils.set_random_seed(3)
    with strategy.scope():
        network = SmallSupernet()
        configure_batch_norm(network, replicas=replicas())
        table = TeacherTable(np.random.default_rng(0).normal(size=(16, IDENTITIES)))
        arguments = {"num_identities": IDENTITIES, "penalty": beta_decay}
        model = SearchModel(network, table, Objective(), **arguments)
        model.compile(SGD()(learning_rate=0.05), Adam()(learning_rate=0.01), jit_compile=False)
    start = [np.array(v) for v in network.variables]
    parts = [{"train": batch(2 * i), "val": batch(2 * i + 1)} for i in range(steps)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(parts), output_signature=tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), parts[0])
    )
    callbacks = [Scheduled(model.temperature, lambda epoch: 1.5 * (1 - epoch), logged_as="temperature")]
    history = model.fit(dataset, epochs=2, steps_per_epoch=steps // 2, shuffle=False, verbose=0, callbacks=callbacks)
    return start, network, history.history


@pytest.mark.slow
def test_two_and_four_devices_give_the_weights_and_alphas_of_one(float64, two_devices, four_devices):
    """Twenty alternating steps: statistics, mining, teacher and penalty are those of the whole batch."""
    start, one, one_history = run(tf.distribute.get_strategy())
    assert one_history["temperature"] == [1.5, 0.0]
    moved = [np.max(np.abs(np.array(v) - before)) for v, before in zip(one.variables, start, strict=True)]
    assert np.median(moved) > 0.01
    for strategy in (two_devices, four_devices):
        _, several, history = run(strategy)
        for a, b in zip(one.variables, several.variables, strict=True):
            assert np.max(np.abs(np.array(a) - np.array(b))) <= 1e-9, (strategy.num_replicas_in_sync, a.path)
        for name, values in one_history.items():
            np.testing.assert_allclose(values, history[name], rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_the_drop_from_supernet_to_derived_network_is_the_same_on_two_devices(two_devices):
    batches, alphas = [batch(0), batch(1)], discrete_alphas(random_genotype(0))
    found = []
    for strategy in (tf.distribute.get_strategy(), two_devices):
        with strategy.scope():
            supernet = search_model(0.0).network
        before = np.array(supernet.variables[-1])
        found.append([accuracy(supernet, batches, strategy=strategy, alphas=each) for each in (None, alphas)])
        np.testing.assert_array_equal(before, np.array(supernet.variables[-1]))
    assert found[0] == found[1]


def test_gathered_features_carry_gradients_back_to_every_replica(two_devices):
    strategy = two_devices
    values = np.array([[1.0], [4.0], [9.0], [16.0]], "float32")

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Every replica computes the whole batch's loss; each counts half.
            loss = tf.reduce_sum(gather(x) ** 2) / replicas()
        return tape.gradient(loss, x)

    dataset = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(values).batch(4))
    parts = [strategy.run(gradient, args=(x,)) for x in dataset]
    joined = tf.concat(strategy.experimental_local_results(parts[0]), 0)
    np.testing.assert_allclose(joined, 2 * values)


def copies(parts):
    return [[np.array(variable) for variable in part] for part in parts]


def same(before, after):
    return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def test_weight_step_leaves_alphas_alone_and_alpha_step_leaves_weights_alone():
    model = search_model(1.0)
    parts = model.network.alphas, model.network.network_weights
    alphas, weights = copies(parts)
    data = tf.nest.map_structure(tf.constant, batch(1))
    targets = model.targets(data)

    model.descend(data, targets, parts[1], model.optimizer, model.train_means)
    moved_weights = copies(parts)[1]
    assert all(same(alphas, parts[0])) and not any(same(weights, moved_weights))

    model.descend(data, targets, parts[0], model.alpha_optimizer, model.val_means)
    assert all(same(moved_weights, parts[1])) and not any(same(alphas, parts[0]))


@pytest.mark.both_graphs
def test_train_step_equals_the_two_steps_of_algorithm_1_done_by_hand():
    together, by_hand = search_model(1.5), search_model(1.5)
    train, val = (tf.nest.map_structure(tf.constant, batch(seed)) for seed in (1, 2))
    together.train_step({"train": train, "val": val})
    by_hand.descend(
        train, by_hand.targets(train), by_hand.network.network_weights, by_hand.optimizer, by_hand.train_means
    )
    by_hand.descend(val, by_hand.targets(val), by_hand.network.alphas, by_hand.alpha_optimizer, by_hand.val_means)
    for a, b in zip(together.network.variables, by_hand.network.variables, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-4, atol=1e-6, err_msg=a.path)


def state(model):
    """Copies of the alphas, of all their optimizer holds, and of the weights."""
    return copies([model.network.alphas, model.alpha_optimizer.variables, model.network.weights])


def test_alphas_that_rest_keep_their_optimizer_and_the_objective_is_measured_all_the_same():
    resting, moving = search_model(1.5), search_model(1.5)
    batches = {name: tf.nest.map_structure(tf.constant, batch(seed)) for name, seed in (("train", 1), ("val", 2))}
    alphas, optimizer, weights = state(resting)
    resting.alphas_rest = True
    rested, moved = resting.train_step(batches), moving.train_step(batches)
    after = state(resting)
    assert all(same(alphas, after[0])) and all(same(optimizer, after[1]))
    assert not any(same(alphas, state(moving)[0])) and not all(same(optimizer, state(moving)[1]))
    assert not all(same(weights, after[2]))
    assert {name: float(value) for name, value in rested.items()} == pytest.approx(
        {name: float(value) for name, value in moved.items()}, rel=1e-4
    )


class States(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.seen = [*getattr(self, "seen", []), state(self.model)[:2]]


@pytest.mark.slow
def test_a_compiled_search_starts_to_move_the_alphas_after_the_warm_up():
    model, states = search_model(1.5), States()
    start = state(model)
    parts = tf.data.Dataset.from_tensors({"train": batch(1), "val": batch(2)}).repeat(6)
    callbacks = [AlphaWarmup(2, of=3), states]
    history = model.fit(parts, epochs=3, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=callbacks).history
    for alphas, optimizer in states.seen[:2]:
        assert all(same(start[0], alphas)) and all(same(start[1], optimizer))
    assert not any(same(start[0], states.seen[2][0]))
    assert int(model.alpha_optimizer.iterations) == 2
    assert set(history) == {*model.train_means, *(f"val_{name}" for name in model.val_means)}
    assert all(len(values) == 3 and np.min(values) > 0 for values in history.values())


def test_a_penalty_moves_the_alphas_by_its_gradient_and_nothing_else():
    def penalty(alphas):
        return 0.5 * tf.reduce_sum(alphas[0] ** 2) + tf.reduce_sum(3.0 * alphas[1])

    plain, penalized = search_model(0.0), search_model(0.0, penalty=penalty)
    batches = {name: tf.nest.map_structure(tf.constant, batch(seed)) for name, seed in (("train", 1), ("val", 2))}
    start = [np.array(alpha) for alpha in plain.network.alphas]
    logs = []
    for model in (plain, penalized):
        model.compile(SGD()(learning_rate=0.005), keras.optimizers.SGD(0.1), jit_compile=False)
        logs.append({name: float(value) for name, value in model.train_step(batches).items()})
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)
    differences = [np.array(a) - b for a, b in zip(plain.network.alphas, penalized.network.alphas, strict=True)]
    np.testing.assert_allclose(differences[0], 0.1 * start[0], atol=1e-5)
    np.testing.assert_allclose(differences[1], 0.1 * 3.0, atol=1e-5)
    for a, b in zip(plain.network.network_weights, penalized.network.network_weights, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-4, atol=1e-6)


class CountingTeacher(keras.Model):
    """A teacher that counts how often it is run."""

    def __init__(self):
        super().__init__()
        self.runs = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, images, training=False):
        self.runs.assign(self.runs + 1.0)
        logits = tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), IDENTITIES) * 5.0
        return ReIDOutput(logits, logits, logits)


def test_teacher_is_run_once_a_step_above_temperature_zero_and_never_at_zero():
    keras.utils.set_random_seed(1)
    supernet = Supernet(IDENTITIES, image_size=SIZE, channels=4, cells=1, reductions=())
    teacher = CountingTeacher()
    model = SearchModel(supernet, teacher, Objective(), num_identities=IDENTITIES)
    model.compile(SGD()(learning_rate=0.1), Adam()(learning_rate=3.5e-4), jit_compile=False)
    data = {"train": batch(1), "val": batch(2)}
    step = tf.function(model.train_step)
    for temperature, runs in ((2.0, 1), (0.5, 2), (0.0, 2), (0.0, 2)):
        model.temperature.assign(temperature)
        step(tf.nest.map_structure(tf.constant, data))
        assert float(teacher.runs.value) == runs
