"""Leaves out what cannot be trained on: damaged images, and people of whom there is only one image."""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

from PIL import Image, UnidentifiedImageError

from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

# A photograph of one person has a few thousand pixels; whatever exceeds this is a mistake or an attack on memory.
MAX_PIXELS = 50_000_000
SINGLE_IMAGE = "single image: its identity has no other one to form a pair with"

# What transforms.decode reads, too. Pillow and TensorFlow reject the same truncated JPEGs (measured).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF")


def drop_damaged(
    data: ReIDData, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> ReIDData:
    """Opens and decodes every image; what fails moves to `skipped` with a reason that begins with 'damaged: '.

    Args:
        data: the data set.
        workers: number of threads; by default, twice the number of processors.
        progress: called with (images done, images in all) after every image.

    Raises:
        UserError: every image of a split is damaged.
    """
    paths = [record.path for record in (*data.train, *data.query, *data.gallery)]
    damages: dict[str, str] = {}
    for done, (path, damage) in enumerate(zip(paths, damage_of(paths, workers=workers), strict=True), start=1):
        if damage:
            damages[path] = damage
        if progress:
            progress(done, len(paths))

    def good(split: str, records: tuple[Record, ...]) -> tuple[Record, ...]:
        kept = tuple(record for record in records if record.path not in damages)
        if records and not kept:
            raise UserError(
                f"Expected images in the {split} split of {data.name}, but every one of its {len(records)} is damaged; "
                f"the first, {records[0].path}: {damages[records[0].path]}. Get the data set again.",
                code="damaged",
            )
        return kept

    return dataclasses.replace(
        data,
        train=good("train", data.train),
        query=good("query", data.query),
        gallery=good("gallery", data.gallery),
        skipped=data.skipped + tuple((path, f"damaged: {damage}") for path, damage in damages.items()),
    )


def damage_of(paths: Sequence[str], *, workers: int | None = None) -> Iterator[str | None]:
    """Yields what is wrong with each image, in order; None for a good one."""
    workers = workers or 2 * (os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_damage, paths)


def keep_trainable(
    records: Sequence[Record], *, identities_per_batch: int
) -> tuple[tuple[Record, ...], tuple[tuple[str, str], ...]]:
    """Leaves out identities with a single image: they form no positive pair and cannot be split in half.

    Args:
        records: the training split.
        identities_per_batch: P of the P x K batches; so many identities have to remain.

    Returns:
        (records, skipped): what is kept, in the same order, and (path, reason) of what is not.

    Raises:
        UserError: fewer than `identities_per_batch` identities remain.
    """
    images = collections.Counter(record.identity for record in records)
    kept = tuple(record for record in records if images[record.identity] > 1)
    skipped = tuple((record.path, SINGLE_IMAGE) for record in records if images[record.identity] == 1)
    identities = sum(count > 1 for count in images.values())
    if not identities:
        raise UserError(
            f"Expected identities with two or more training images, but there are none among {len(images)} identities. "
            f"Add images: nothing can be learned from one image per person."
        )
    if identities < identities_per_batch:
        raise UserError(
            f"Expected at least identities_per_batch = {identities_per_batch} identities with two or more training "
            f"images, but there are {identities} (and {len(skipped)} with one image). Lower identities_per_batch to "
            f"{identities} or less, or add images.",
            code="fit",
        )
    return kept, skipped


def _damage(path: str) -> str | None:
    try:
        if os.path.getsize(path) == 0:
            return "an empty file"
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return f"{width} x {height} pixels are more than {MAX_PIXELS:,}"
            image.load()
    except UnidentifiedImageError:
        return "not an image in one of the formats " + ", ".join(_FORMATS)
    except OSError as error:
        return error.strerror or str(error)
    except (
        Exception
    ) as error:  # Pillow's decoders raise many kinds (SyntaxError, ValueError, zlib.error, struct.error).
        return f"{type(error).__name__}: {error}"
    return None
