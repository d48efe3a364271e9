"""Times decoding and augmentation of JPEG files, and a PyTorch DataLoader beside it (torch_loader.py).

Reads photographs in batches of 8 x 4: decoded, mirrored, padded, cropped, resized and normalised. They are rendered
people of Market-1501's size (128x64, quality 95), or those of --photographs. Sizes are HEIGHTxWIDTH in pixels, of what
a network sees. In "kept in memory" all images have been decoded before (launch.run.image_cache_gb). CPU ms are those of
both cores for an image, the DataLoader's with its workers'.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import harness, models

PEER = Path(__file__).with_name("torch_loader.py")
SIZES = ("384x128", "64x32")
QUICK = ("32x16",)
SHAPE = (8, 4)  # P x K
COLUMNS = {"size": "", "": "", "images/s": ".0f", "CPU ms": ".3f", "x DataLoader": ".2f", "in CPU time": ".2f"}
LABELS = {
    "decode_tensorflow": "decode alone, tf.io.decode_jpeg",
    "decode_pillow": "decode alone, Pillow, two threads",
    "peer": "DataLoader, two workers",
    "files": "ours, from files",
    "kept": "ours, images kept in memory",
}


def padding_of(height: int) -> int:
    """Pixels of padding before the crop, as gin/scale has them: 10 at 384x128, 2 at 64x32."""
    return max(1, round(height / 38))


def render(folder: Path, identities: int) -> None:
    """Writes rendered people as JPEG files of the size of Market-1501's."""
    models.render_people(folder, train_identities=identities, test_identities=2, image_size=(128, 64), quality=95)


def seconds_of(batches: Iterable[Any], number: int, warm: int = 3) -> tuple[float, float]:
    """Seconds and CPU seconds of a number of batches, after some that are not counted."""
    iterator = iter(batches)
    for _ in range(warm):
        next(iterator)
    return harness.timed(lambda: [None for _ in range(number) if next(iterator) is None])


def time_batches(row: str, photographs: Path, size: tuple[int, int], number: int, python: str) -> tuple[float, float]:
    """Seconds and CPU seconds of a number of batches."""
    if row == "decode_pillow":
        return seconds_of(_pillow(photographs, number), number)
    if row == "peer":
        arguments = [photographs / "bounding_box_train", *size, padding_of(size[0]), *SHAPE, number]
        found = json.loads(harness.other_python(python, PEER, arguments)[-1])
        return found["seconds"], found["cpu"]
    import tensorflow as tf

    from kdas_tf.data import market1501
    from kdas_tf.models.stem import normalize

    images = SHAPE[0] * SHAPE[1]
    records = market1501.read(photographs).train
    if row == "decode_tensorflow":
        paths = tf.constant([record.path for record in records])
        dataset = tf.data.Dataset.range(len(records)).repeat()
        dataset = dataset.map(lambda i: tf.size(tf.io.decode_jpeg(tf.io.read_file(paths[i]), 3)), tf.data.AUTOTUNE)
        return seconds_of(dataset.batch(images), number)
    kept = row == "kept"
    dataset = models.real_batches(records, size, SHAPE, padding=padding_of(size[0]), kept=kept, paired=False)
    # The networks normalise what they are given; the DataLoader's transforms do it, so it is counted here, too.
    dataset = dataset.map(lambda batch: normalize(batch["image"])).prefetch(1)
    return seconds_of(dataset, number, len(records) // images + 1 if kept else 3)


def _pillow(folder: Path, batches: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    def decode(path: Path) -> int:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).size

    files = sorted((folder / "bounding_box_train").glob("*.jpg"))
    images = SHAPE[0] * SHAPE[1]
    with ThreadPoolExecutor(harness.THREADS) as pool:
        for batch in range(batches + 3):
            yield list(pool.map(decode, (files[(batch * images + i) % len(files)] for i in range(images))))


def measure(row: str, photographs: str, number: int, **case: Any) -> dict[str, float]:
    """One row, or the photographs of all."""
    if row == "render":
        render(Path(photographs), number)
        return {}
    height, width = map(int, case["size"].split("x"))
    seconds, cpu = time_batches(row, Path(photographs), (height, width), number, case["python"])
    images = SHAPE[0] * SHAPE[1] * number
    return {"images/s": images / seconds, "CPU ms": 1e3 * cpu / images}


def photographs_of(arguments: argparse.Namespace) -> str:
    """The folder that was given; or rendered people."""
    if arguments.photographs:
        return str(arguments.photographs)
    folder = f"{arguments.folder}/people"
    harness.worker(row="render", photographs=folder, number=SHAPE[0] if arguments.quick else 100)
    return folder


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows at every size, in turn."""
    common = {"photographs": photographs_of(arguments), "number": 3 if arguments.quick else arguments.batches}
    common["python"] = arguments.peer_python
    return [
        {"size": size, "": label, "row": row, **common}
        for size in (QUICK if arguments.quick else arguments.sizes)
        for row, label in LABELS.items()
    ]


def beside_the_peer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds how many times as fast as the DataLoader ours is."""
    peers = {row["size"]: row for row in rows if row["row"] == "peer" and "images/s" in row}
    for row in rows:
        peer = peers.get(row["size"])
        if peer and row["row"] in ("files", "kept") and "images/s" in row:
            row["x DataLoader"] = row["images/s"] / peer["images/s"]
            row["in CPU time"] = peer["CPU ms"] / row["CPU ms"]
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    add_photographs(parser)
    parser.add_argument("--batches", type=harness.at_least_1, default=60, help="timed batches (default: 60)")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")


def add_photographs(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that names the photographs."""
    text = "a data set in Market-1501's layout (default: 100 rendered people)"
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help=text)


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES, derive=beside_the_peer, rounds=5)
