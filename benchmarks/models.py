"""What the benchmarks use of kdas_tf's training: its set-up, networks, models of a step, and batches.

Only this file has to follow where that part of the package changes. TensorFlow is imported inside of the functions, so
that the process that only starts others does without.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import THREADS

MARKET1501 = 751  # training identities
REDUCTIONS = {8: (2, 4, 6), 6: (1, 3), 5: (1, 3), 4: (1, 3), 3: (1, 2), 2: (1,), 1: ()}


class Size(NamedTuple):
    """Size of a network of cells and its batch, on the command line "C H W B CELLS"; height and width in pixels."""

    channels: int
    height: int
    width: int
    batch: int
    cells: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Reads it as it is on the command line."""
        size = cls(*map(int, text.split()))
        if size.cells not in REDUCTIONS:
            raise ValueError(f"expected {', '.join(map(str, REDUCTIONS))} cells, got {text!r}")
        return size

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def network(self, **options: Any) -> dict[str, Any]:
        """Arguments of a supernet or a student."""
        shape = {"image_size": self.image_size, "channels": self.channels, "cells": self.cells}
        return {**shape, "reductions": REDUCTIONS[self.cells], **options}


def strategy(logical_cpus: int | None = None) -> Any:
    """Sets TensorFlow up as the launcher does for networks of cells on `THREADS` cores; returns the strategy."""
    import tensorflow as tf

    from kdas_tf.training.devices.strategy import make_strategy

    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return make_strategy(None, logical_cpus, "float32", intra_op_threads=1)


def supernet(size: Size, identities: int, *, replicas: int = 1, **options: Any) -> Any:
    """A supernet as the search stage makes it."""
    from kdas_tf.models.networks import Supernet
    from kdas_tf.training.batch_norm import configure_batch_norm

    network = Supernet(identities, **size.network(**options))
    configure_batch_norm(network, replicas=replicas)
    return network


def student(size: Size, genotype: str, identities: int = MARKET1501) -> Any:
    """A derived network; the genotype is a known name or a file."""
    from kdas_tf.genotype import load
    from kdas_tf.models.networks import Student

    return Student(load(genotype), identities, **size.network())


def optimizers(weight_rate: float = 1e-3, alpha_rate: float = 2e-3, **alpha_options: Any) -> tuple[Any, Any]:
    """SGD with momentum for the weights and Adam for the alphas, as the search has them.

    The default rates are small: the batch is always the same, and numbers that overflow would take another time.
    """
    from kdas_tf.training.optimizers import SGD, Adam

    return SGD()(learning_rate=weight_rate), Adam(**alpha_options)(learning_rate=alpha_rate)


def search_model(network: Any, teacher: Any, identities: int, *, temperature: float = 1.0) -> Any:
    """Makes what the search stage trains, with the paper's objective, compiled.

    Args:
        network: a `Supernet`, or what has its `network_weights` and `alphas`.
        teacher: a `Teacher` or a `TeacherTable`.
        identities: training identities.
        temperature: T of the soft targets.

    Returns:
        A `SearchModel` whose `train_function` is made.
    """
    from kdas_tf.losses.objective import Objective
    from kdas_tf.training.steps import SearchModel

    model = SearchModel(network, teacher, Objective(), num_identities=identities)
    model.compile(*optimizers(), jit_compile=False)
    return _ready(model, temperature)


def training_model(
    network: Any, teacher: Any, identities: int, *, learning_rate: float, temperature: float = 0.0
) -> Any:
    """Makes what the train stage trains, with Adam and the paper's objective, compiled.

    Args:
        network: with an identity classifier.
        teacher: as of `search_model`, or None where the temperature stays 0.
        identities: training identities.
        learning_rate: of Adam.
        temperature: T of the soft targets.

    Returns:
        A `TrainingModel` whose `train_function` is made.
    """
    from kdas_tf.losses.objective import Objective
    from kdas_tf.training.optimizers import Adam
    from kdas_tf.training.steps import TrainingModel

    model = TrainingModel(network, teacher, Objective(), num_identities=identities)
    model.compile(Adam()(learning_rate=learning_rate), jit_compile=False)
    return _ready(model, temperature)


def _ready(model: Any, temperature: float) -> Any:
    model.temperature.assign(temperature)
    model.make_train_function()
    return model


def outputs_and_loss(model: Any, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Features, embeddings and logits of a `TrainingModel` in inference, and then its loss in training."""
    outputs = model.network(batch["image"], training=False)._asdict()
    return outputs, model.terms(batch, model.targets(batch)).total


def checkpoints(folder: Path, model: Any) -> Any:
    """A function of an epoch's number that saves all of a search."""
    from kdas_tf.training.checkpoints import Checkpoints, Position

    parts = {
        "network": model.network,
        "weight_optimizer": model.optimizer,
        "alpha_optimizer": model.alpha_optimizer,
        "temperature": model.temperature,
    }
    kept = Checkpoints(folder, parts)
    return lambda epoch: kept.save(Position(epoch))


def use_statistics_of(images: Any, network: Any) -> None:
    """Gives all batch normalisations the statistics of some images, as after a training."""
    from kdas_tf.training.batch_norm import configure_batch_norm

    configure_batch_norm(network, replicas=1, momentum=0.0)
    network(images, training=True)
    configure_batch_norm(network, replicas=1, momentum=0.9)


def random_table(images: int, identities: int) -> Any:
    """A teacher whose logits are random, and looked up."""
    import numpy as np

    from kdas_tf.models.teacher_network import TeacherTable

    return TeacherTable(np.random.default_rng(0).normal(0, 3, (images, identities)).astype("float32"))


def random_batch(
    image_size: tuple[int, int], batch: int, identities: int, *, images: int = 16, seed: int = 0, per_identity: int = 2
) -> dict[str, Any]:
    """A batch of random pixels, so that no time goes into reading them.

    Args:
        image_size: (height, width) in pixels.
        batch: images.
        identities: training identities, of which some are drawn; all, and some of them again, where there are few.
        images: that the teacher's table knows.
        seed: of pixels and identities.
        per_identity: images of an identity.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    number = -(-batch // per_identity)
    people = np.resize(random.choice(identities, min(identities, number), replace=False), number)
    return {
        "image": random.uniform(0, 255, (batch, *image_size, 3)).astype("float32"),
        "label": np.repeat(people, per_identity)[:batch].astype("int32"),
        "index": (np.arange(batch) % images).astype("int32"),
    }


def repeated(batch: Any) -> Any:
    """A dataset of one batch again and again."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat()


def search_batches(size: Size, identities: int, **options: Any) -> Any:
    """A dataset of one random batch for the weights and one for the alphas, again and again."""
    halves = {"train": 1, "val": 2}
    return repeated(
        {
            half: random_batch(size.image_size, size.batch, identities, seed=seed, **options)
            for half, seed in halves.items()
        }
    )


def render_people(folder: Path, **wanted: Any) -> None:
    """Writes rendered people in Market-1501's layout; the arguments are those of `RenderedPeople`."""
    from kdas_tf.data.embedded.synthetic import RenderedPeople, write_dataset

    write_dataset(folder, RenderedPeople(**wanted))


def real_batches(
    records: Sequence[Any], size: tuple[int, int], shape: tuple[int, int], *, padding: int, kept: bool, paired: bool
) -> Any:
    """Batches as the stages make them, without an end.

    Args:
        records: of the photographs.
        size: (height, width) of the images in pixels.
        shape: identities and images of each in a batch, P and K.
        padding: pixels of padding before the crop.
        kept: whether decoded images are kept in memory.
        paired: whether these are a search's two batches of the halves of the records.
    """
    from kdas_tf.data.pipeline import TrainingImages, balanced_batches, paired_batches
    from kdas_tf.data.splits import half_split
    from kdas_tf.data.transforms import Augmentation
    from kdas_tf.settings import Sampling

    images = TrainingImages(records, size, cache_bytes=1e9 if kept else 0)
    augmentation = Augmentation(padding=padding)
    sampling = Sampling(identities_per_batch=shape[0], images_per_identity=shape[1], augmentation=augmentation)
    if not paired:
        return balanced_batches(images, sampling=sampling, seed=0, epochs=10_000)
    train, val = half_split(images.labels, 0)
    return paired_batches(images, {"train": (train, 0), "val": (val, 1)}, sampling=sampling, epochs=10_000)
