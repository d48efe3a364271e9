"""The networks that inference.py and operations.py measure, with random weights, and their files."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference_runtimes import EXPECTED, IMAGES, NETWORK, Made, runtime_of

IMAGES_MADE = 16
IDENTITIES = 751  # Market-1501's, for the classifier that Keras predict runs too
RESNET, OSNET = "ResNet-50", "OSNet"
STUDENTS, PEERS = ("Auto-ReID", "searched"), (f"{RESNET} stride 2", f"{RESNET} stride 1", f"{OSNET} x1.0")
LARGE = {"channels": 64}
SMALL = {"channels": 8, "cells": 3, "reductions": (1,)}  # --quick


def make_network(name: str, size: tuple[int, int], genotype: str, scale: dict[str, Any]) -> Any:
    """A network with random weights; None for OSNet, which is made as an ONNX graph only."""
    import keras

    from kdas_tf import genotype as genotypes
    from kdas_tf.models.networks import Student
    from kdas_tf.models.resnet import ResNet

    keras.utils.set_random_seed(0)
    if name.startswith(OSNET):
        return None
    if name.startswith(RESNET):
        return ResNet(50, IDENTITIES, image_size=size, last_stride=int(name[-1]), conv_bias=False)
    which = genotypes.load("AUTO_REID" if name == STUDENTS[0] else genotype)
    return Student(which, IDENTITIES, image_size=size, **scale)


def render(size: tuple[int, int]) -> Any:
    """Rendered people, uint8 `[16, height, width, 3]`."""
    import numpy as np
    from PIL import Image

    from kdas_tf.data.embedded import synthetic

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "people")
        counts = {"train_identities": IMAGES_MADE, "test_identities": 2, "cameras": 2, "images_per_camera": 2}
        synthetic.write_dataset(root, image_size=size, **counts)
        paths = sorted((root / synthetic.TRAIN).iterdir())[:IMAGES_MADE]
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def prepare(
    name: str, size: tuple[int, int], runtimes: Sequence[str], folder: Path, *, genotype: str, scale: dict[str, Any]
) -> dict[str, Any]:
    """Writes the files of one network for all its runtimes.

    The statistics of the normalisations are those of the images, as after a training, so that a normalisation that is
    folded wrongly shows.

    Args:
        name: one of `STUDENTS` or `PEERS`.
        size: (height, width) of the images in pixels.
        runtimes: names of them.
        folder: to make, for the files.
        genotype: file of the searched one.
        scale: arguments of a student, `LARGE` or `SMALL`.

    Returns:
        For each runtime the seconds that its files took, or why they could not be made.
    """
    import numpy as np

    from kdas_tf.errors import UserError
    from kdas_tf.models import saved
    from kdas_tf.training.batch_norm import configure_batch_norm

    folder.mkdir()
    images = render(size)
    np.save(folder / IMAGES, images)
    network = make_network(name, size, genotype, scale)
    if network is not None:
        configure_batch_norm(network, replicas=1, momentum=0.0)
        network(images[:8].astype(np.float32), training=True)
        configure_batch_norm(network, replicas=1, momentum=0.9)
        saved.save(network, folder / NETWORK, image_size=size)
        np.save(folder / EXPECTED, network.predict_on_batch(images.astype(np.float32)).embedding)
    made = Made(network, images, folder)
    written: dict[str, Any] = {}
    for runtime in runtimes:
        began, write = time.perf_counter(), runtime_of(runtime).write
        try:
            if write is not None:
                write(made)
            written[runtime] = time.perf_counter() - began
        except (UserError, ImportError) as error:
            written[runtime] = str(error)
    return written
