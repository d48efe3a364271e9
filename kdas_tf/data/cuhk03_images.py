"""Takes the images out of `cuhk-03.mat`, one by one: an HDF5 file (MATLAB 7.3) of a gigabyte or more.

The data sets `labeled` and `detected` refer to five camera pairs, a camera pair to the images `[10, people]` of its
people (1-5 of the first camera, 6-10 of the second, empty where there are fewer), all of them stored transposed: an
image is `[3, width, height]`.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from kdas_tf import files
from kdas_tf.data.records import Progress
from kdas_tf.errors import UserError
from kdas_tf.formats import MAX_PIXELS

NO_IMAGE = "missing: the split file names it, but cuhk-03.mat has no such image"

# 1_001_2_06.png: camera pair 1, person 1 of that pair, camera 2, image 6 of 10.
NAME = re.compile(r"(?P<pair>\d+)_(?P<person>\d+)_(?P<camera>[12])_(?P<image>\d+)\.png", re.ASCII)

# Measured: 1.6 ms an image instead of the default's 6.2 ms, and not a larger file.
_COMPRESSION = 1


def extract(
    mat: Path,
    boxes: str,
    names: Sequence[str],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Writes images as PNG; each appears under its name only when it is complete.

    Args:
        mat: the file cuhk-03.mat.
        boxes: 'labeled' or 'detected'.
        names: what to write, as in the split files: 1_001_1_01.png.
        folder: where to write; it is made if need be.
        progress: told of every image.

    Returns:
        {name: reason} of the images that could not be written.

    Raises:
        UserError: the file is not such a file, or the folder cannot be written to.
    """
    failed: dict[str, str] = {}
    try:
        files.open_file(mat).close()  # HDF5 would wait for a pipe
        file = h5py.File(mat, "r")
    except OSError as error:
        raise _damaged(mat, "it is not an HDF5 file, or not a complete one") from error
    with file:
        pairs = _camera_pairs(file, mat, boxes)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(folder, error) from error
        for done, name in enumerate(names, start=1):
            try:
                pixels = _pixels(file, pairs, name)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                failed[name] = f"damaged: cannot be read from cuhk-03.mat ({' '.join(str(error).split())})"
            else:
                if pixels is None:
                    failed[name] = NO_IMAGE
                else:
                    _write(pixels, folder / name)
            if progress:
                progress(done, len(names))
    return failed


def _camera_pairs(file: h5py.File, mat: Path, boxes: str) -> list[npt.NDArray]:
    """The references to the images of each camera pair, `[10, people]`."""
    try:
        pairs = [_references(file[reference]) for reference in _references(file[boxes]).ravel()]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(mat, f"it has no images under '{boxes}' ({' '.join(str(error).split())})") from error
    if not pairs:
        raise _damaged(mat, f"it has no camera pair under '{boxes}'")
    if not all(pair.ndim == 2 and pair.shape[0] == 10 for pair in pairs):
        shapes = ", ".join(str(pair.shape) for pair in pairs)
        raise _damaged(mat, f"the images under '{boxes}' are arranged as {shapes}, not as ten per person")
    return pairs


def _references(node: object) -> npt.NDArray:
    if not isinstance(node, h5py.Dataset) or h5py.check_ref_dtype(node.dtype) is not h5py.Reference:
        raise ValueError("expected references to objects")
    return node[()]


def _pixels(file: h5py.File, pairs: Sequence[npt.NDArray], name: str) -> npt.NDArray[np.uint8] | None:
    """One image, `[height, width, 3]`; None if its place is empty.

    Raises:
        ValueError: what is there is no image.
        OSError, RuntimeError, KeyError: HDF5 cannot read it.
    """
    match = NAME.fullmatch(name)
    if not match:
        raise ValueError("expected a name like 1_001_1_01.png")
    pair, person, image = (int(match[part]) - 1 for part in ("pair", "person", "image"))
    if not (0 <= pair < len(pairs) and 0 <= image < 10 and 0 <= person < pairs[pair].shape[1]):
        return None
    reference = pairs[pair][image, person]
    if not reference:
        return None
    node = file[reference]
    if not isinstance(node, h5py.Dataset):
        raise ValueError("expected an image, got a group")
    if node.ndim < 3:  # MATLAB stores an empty cell as its two sizes.
        return None
    if node.ndim != 3 or node.shape[0] != 3 or node.dtype != np.uint8 or not 0 < node.size <= 3 * MAX_PIXELS:
        raise ValueError(f"expected [3, width, height] of uint8, got {list(node.shape)} of {node.dtype}")
    return np.ascontiguousarray(node[()].T)


def _write(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    """Writes a PNG atomically, also while another process writes the same one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        Image.fromarray(pixels).save(partial, format="PNG", compress_level=_COMPRESSION)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _not_writable(path.parent, error) from error


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"Expected to write the images of cuhk-03.mat to {folder}, but: {error.strerror or error}. Give another place "
        f"with --gin_param=\"cuhk03.read.extract_to='FOLDER'\"; it takes up to a gigabyte."
    )


def _damaged(mat: Path, why: str) -> UserError:
    return UserError(
        f"Expected the cuhk-03.mat of the CUHK03 data set at {mat}, but {why}. Unpack the data set again, or give the "
        "extracted images in images_labeled and images_detected."
    )
