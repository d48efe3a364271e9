"""The networks that speed.py and profile.py measure, with random weights, and their files."""

import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.inference.runtimes import EXPECTED, IMAGES, NETWORK, Made, runtimes_of

IMAGES_MADE = 16
RESNET, OSNET = "ResNet-50", "OSNet"
STUDENTS, PEERS = ("Auto-ReID", "searched"), (f"{RESNET} stride 2", f"{RESNET} stride 1", f"{OSNET} x1.0")
LARGE = {"channels": 64}
SMALL = {"channels": 8, "cells": 3, "reductions": (1,)}  # --quick


def folder_of(case: dict[str, Any]) -> Path:
    """Where the files of a case's network are."""
    return Path(case["folder"], re.sub(r"[^\w.]+", "_", f"{case['network']}_{case['size']}"))


def make_network(case: dict[str, Any], size: tuple[int, int]) -> Any:
    """A case's network with random weights; None for OSNet, which is made as an ONNX graph only."""
    import keras

    from kdas_tf import genotype as genotypes
    from kdas_tf.models.networks import Student
    from kdas_tf.models.resnet import ResNet

    keras.utils.set_random_seed(0)
    name = case["network"]
    if name.startswith(OSNET):
        return None
    if name.startswith(RESNET):
        return ResNet(50, models.MARKET1501, image_size=size, last_stride=int(name[-1]), conv_bias=False)
    genotype = genotypes.load("AUTO_REID" if name == STUDENTS[0] else case["genotype"])
    return Student(genotype, models.MARKET1501, image_size=size, **(SMALL if case["quick"] else LARGE))


def read_images(size: tuple[int, int], photographs: str | None) -> Any:
    """Photographs of a folder or rendered people, uint8 `[16, height, width, 3]`."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        root = Path(photographs or f"{folder}/people")
        if not photographs:
            counts = {"train_identities": IMAGES_MADE, "test_identities": 2, "cameras": 2, "images_per_camera": 2}
            models.render_people(root, image_size=size, **counts)
        paths = sorted(root.rglob("*.jpg"))[:IMAGES_MADE]
        return np.stack([np.asarray(Image.open(path).convert("RGB").resize(size[::-1])) for path in paths])


def prepare(case: dict[str, Any], folder: Path) -> None:
    """Writes the files of a case's network for all its runtimes; for one that lacks something, what that is.

    The statistics of the normalisations are those of the images, as after a training, so that a normalisation that is
    folded wrongly shows.
    """
    import numpy as np

    from kdas_tf.errors import UserError
    from kdas_tf.models import saved

    height, width = map(int, case["size"].split("x"))
    folder.mkdir()
    images = read_images((height, width), case["photographs"])
    np.save(folder / IMAGES, images)
    network = make_network(case, (height, width))
    if network is not None:
        models.use_statistics_of(images[:8].astype(np.float32), network)
        saved.save(network, folder / NETWORK, image_size=(height, width))
        np.save(folder / EXPECTED, network.predict_on_batch(images.astype(np.float32)).embedding)
    made = Made(network, images, folder)
    for name, runtime in runtimes_of(peer=case["network"] in PEERS).items():
        try:
            if runtime.write is not None:
                runtime.write(made)
        except (UserError, ImportError) as error:
            (folder / f"{name}.missing").write_text(str(error))
