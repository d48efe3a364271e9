"""The models that the stages train and a random input, for benchmarks that time whole steps."""

from typing import Any


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
    from kdas_tf.training.optimizers import SGD, Adam
    from kdas_tf.training.steps import SearchModel

    model = SearchModel(network, teacher, Objective(), num_identities=identities)
    # Small learning rates: the batch is always the same, and numbers that overflow would take another time.
    model.compile(SGD()(learning_rate=1e-3), Adam()(learning_rate=2e-3), jit_compile=False)
    model.temperature.assign(temperature)
    model.make_train_function()
    return model


def training_model(
    student: Any, teacher: Any, identities: int, *, learning_rate: float, temperature: float = 0.0
) -> Any:
    """Makes what the train stage trains, with the paper's objective, compiled.

    Args:
        student: a network with an identity classifier.
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

    model = TrainingModel(student, teacher, Objective(), num_identities=identities)
    model.compile(Adam()(learning_rate=learning_rate), jit_compile=False)
    model.temperature.assign(temperature)
    model.make_train_function()
    return model


def random_table(images: int, identities: int) -> Any:
    """A teacher whose logits are random, and looked up."""
    import numpy as np

    from kdas_tf.models.teacher_network import TeacherTable

    return TeacherTable(np.random.default_rng(0).normal(0, 3, (images, identities)).astype("float32"))


def random_batch(image_size: tuple[int, int], batch: int, identities: int, *, images: int, seed: int) -> dict[str, Any]:
    """A batch of random pixels, two images of an identity, so that no time goes into reading them.

    Args:
        image_size: (height, width) in pixels.
        batch: images.
        identities: training identities, of which some are drawn; all, and some of them again, where there are few.
        images: that the teacher's table knows.
        seed: of pixels and identities.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    number = -(-batch // 2)
    people = np.resize(random.choice(identities, min(identities, number), replace=False), number)
    return {
        "image": random.uniform(0, 255, (batch, *image_size, 3)).astype("float32"),
        "label": np.repeat(people, 2)[:batch].astype("int32"),
        "index": (np.arange(batch) % images).astype("int32"),
    }
