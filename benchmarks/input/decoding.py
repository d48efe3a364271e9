"""What the two transforms of TensorFlow's JPEG decoder cost, how far they are from the original, and EXIF's cost.

Originals are crops of rendered people (so that their blocks are not those of the rendered files), written as JPEG at
quality 95 with all of their colours. The columns: mean difference to the original in grey levels; CPU milliseconds of
an image in a data set's `map`.
"""

import argparse
import io
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.input.pipeline import render

COLUMNS = {"decoder": "", "grey levels": ".2f", "CPU ms": ".3f"}
LABELS = {
    "fast": "tf.io.decode_jpeg, INTEGER_FAST (its default)",
    "accurate": "tf.io.decode_jpeg, INTEGER_ACCURATE",
    "ours": "decoding.decode_pixels",
    "turned": "decoding.decode_pixels, turned by EXIF data",
}


def measure(row: str, photographs: str, number: int, **_: Any) -> dict[str, float]:
    """One decoder, over and over the same files."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from kdas_tf.data import decoding

    originals, contents = [], []
    for path in sorted(Path(photographs, "bounding_box_train").glob("*.jpg"))[:64]:
        with Image.open(path) as image:
            original = image.convert("RGB").crop((3, 5, image.width, image.height))
        file, options = io.BytesIO(), {}
        if row == "turned":
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 3
        original.save(file, "JPEG", quality=95, subsampling=0, **options)
        originals.append(np.asarray(original.rotate(180) if row == "turned" else original, np.float32))
        contents.append(file.getvalue())
    decoders = {
        "fast": lambda content: tf.io.decode_jpeg(content, 3, dct_method="INTEGER_FAST"),
        "accurate": lambda content: tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"),
    }
    decode = decoders.get(row, decoding.decode_pixels)
    apart = [np.abs(decode(tf.constant(c)).numpy() - o).mean() for c, o in zip(contents, originals, strict=True)]
    dataset = tf.data.Dataset.from_tensor_slices(contents).repeat(number)
    size = tf.autograph.experimental.do_not_convert(lambda content: tf.size(decode(content)))
    dataset = dataset.map(size, num_parallel_calls=tf.data.AUTOTUNE).batch(64)
    for _ in dataset.take(4):
        pass
    _, cpu = harness.timed(lambda: [None for _ in dataset])
    return {"grey levels": float(np.mean(apart)), "CPU ms": 1e3 * cpu / (number * len(contents))}


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All decoders, in turn."""
    folder = f"{arguments.folder}/people"
    harness.worker(row="render", photographs=folder, number=8)
    number = 2 if arguments.quick else 200
    return [{"decoder": label, "row": row, "photographs": folder, "number": number} for row, label in LABELS.items()]


def measure_or_render(row: str, photographs: str, number: int, **case: Any) -> dict[str, float]:
    """One case, or the photographs of all."""
    if row == "render":
        render(Path(photographs), number)
        return {}
    return measure(row, photographs, number, **case)


if __name__ == "__main__":
    harness.main(__doc__, cases, measure_or_render, COLUMNS, rounds=5)
