"""Tiny photographs for the tests of the data package."""

import numpy as np
import pytest
from PIL import Image

from kdas_tf.data.records import Record


@pytest.fixture
def write_image():
    """Writes an image of random pixels (or the given ones) and returns the pixels."""

    def write(path, size=(12, 6), *, pixels=None, mode="RGB", seed=0):
        if pixels is None:
            pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(path)
        return pixels

    return write


@pytest.fixture
def make_records(tmp_path, write_image):
    """Makes PNG files (nothing lost) of `images` photographs for each of `identities` people."""

    def make(identities, images, size=(12, 6)):
        records = []
        for number in range(identities * images):
            identity, image = divmod(number, images)
            path = tmp_path / "made" / f"{identity + 1:04d}_c{image % 2 + 1}s1_{image:06d}_00.png"
            write_image(path, size, seed=number)
            records.append(Record(str(path), identity + 1, image % 2 + 1))
        return records

    return make
