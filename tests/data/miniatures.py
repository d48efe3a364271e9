"""Small data sets in exactly the formats of the published ones, for any test.

Every photograph is a person in two colours on the grey of a camera, with noise, so that photographs of one person are
alike and those of two people are not.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

SIZE = (32, 16)  # height, width in pixels
PERSONS = ("anna", "ben", "chris", "dana")

# CUHK03: people of each camera pair; images 1-5 are the first camera's, 6-10 the second's, of which these exist.
PAIRS = (3, 2, 1, 1, 1)
CELLS = (1, 2, 6, 7)


def photograph(person: int, camera: int, number: int) -> np.ndarray:
    """Pixels of a photograph, uint8 `[height, width, 3]`, a function of the three numbers."""
    colours = np.random.default_rng([1, person]).integers(0, 256, (2, 3))
    rng = np.random.default_rng([2, person, camera, number])
    pixels = np.full((*SIZE, 3), 60.0 + 40 * camera)
    height, width = SIZE
    pixels[height // 8 : height // 2, width // 4 : -width // 4] = colours[0]
    pixels[height // 2 :, width // 4 : -width // 4] = colours[1]
    return np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def market1501(folder: Path, *, train: int = 4, test: int = 3, cameras: int = 2, images: int = 2) -> Path:
    """Market-1501: people 1..train to learn from, the next ones to search for, one distractor, one junk.

    Every person has `images` photographs in each camera; of a test person the first one in each camera is a query.
    """
    for person in range(1, train + test + 1):
        for camera in range(1, cameras + 1):
            for number in range(images):
                split = "bounding_box_train" if person <= train else "bounding_box_test" if number else "query"
                file = f"{person:04d}_c{camera}s1_{number:06d}_00.jpg"
                write(folder / split / file, photograph(person, camera, number))
    for label, person in (("0000", 10_000), ("-1", 10_001)):
        write(folder / "bounding_box_test" / f"{label}_c1s1_000000_00.jpg", photograph(person, 1, 0))
    return folder


def msmt17(folder: Path, version: int = 1, *, train: int = 4, test: int = 3, cameras: int = 2, images: int = 2) -> Path:
    """MSMT17: both splits count people from 0; one more image per training person is in list_val.txt."""
    folders = {1: ("train", "test"), 2: ("mask_train_v2", "mask_test_v2")}[version]
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    for split_folder, people in zip(folders, (train, test), strict=True):
        is_train = split_folder == folders[0]
        for person in range(people):
            serial = 0
            for camera in range(1, cameras + 1):
                for number in range(images + (is_train and camera == 1)):
                    file = f"{person:04d}/{person:04d}_{serial:03d}_{camera:02d}_0303morning_{number:04d}_0.jpg"
                    write(folder / split_folder / file, photograph(person + 100 * (not is_train), camera, number))
                    split = ("train", "val") if is_train else ("query", "gallery")
                    later = number == images if is_train else number > 0
                    lists[split[later]].append(f"{file} {person}\n")
                    serial += 1
    for split, lines in lists.items():
        (folder / f"list_{split}.txt").write_text("".join(lines))
    return folder


def cuhk03(folder: Path, *, raw: bool = True) -> Path:
    """CUHK03 with both split files, and either `cuhk-03.mat` or the folders of extracted images.

    Of its 8 people those with odd labels are trained on; of the others each camera's first image is a query. The
    detected boxes lack one image of the first person.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for boxes in ("labeled", "detected"):
        _write_split(folder / f"cuhk03_new_protocol_config_{boxes}.mat", list(_cuhk03_images(boxes)))
    if raw:
        _write_mat(folder / "cuhk-03.mat")
    else:
        for boxes in ("labeled", "detected"):
            for pair, person, cell in _cuhk03_images(boxes):
                name = f"{pair}_{person:03d}_{1 if cell <= 5 else 2}_{cell:02d}.png"
                write(folder / f"images_{boxes}" / name, cuhk03_pixels(boxes, pair, person, cell))
    return folder


def cuhk03_pixels(boxes: str, pair: int, person: int, cell: int) -> np.ndarray:
    """The image in a cell of `cuhk-03.mat`, all numbers counted from 1; every one has a size of its own."""
    pixels = photograph(10 * pair + person, 1 if cell <= 5 else 2, cell)
    return pixels[: SIZE[0] - cell, : SIZE[1] - (boxes == "detected")]


def _cuhk03_images(boxes: str):
    """(pair, person, cell) of every image, counted from 1, in the order of the official file list."""
    for pair, people in enumerate(PAIRS, start=1):
        for person in range(1, people + 1):
            for cell in CELLS:
                if (boxes, pair, person, cell) != ("detected", 1, 1, 2):
                    yield pair, person, cell


def _write_split(path: Path, images: Sequence[tuple[int, int, int]]) -> None:
    """A split file: a MATLAB 5 file of columns, the names in a cell array, the indices counted from 1."""
    names = np.empty((len(images), 1), object)
    names[:, 0] = [f"{pair}_{person:03d}_{1 if cell <= 5 else 2}_{cell:02d}.png" for pair, person, cell in images]
    labels = [sum(PAIRS[: pair - 1]) + person for pair, person, _ in images]
    splits = [
        "train" if label % 2 else "query" if cell in (1, 6) else "gallery"
        for label, (_, _, cell) in zip(labels, images, strict=True)
    ]
    indices = {
        f"{wanted}_idx": np.array([[i] for i, split in enumerate(splits, start=1) if split == wanted], np.uint16)
        for wanted in ("train", "query", "gallery")
    }
    cameras = np.array([[1 if cell <= 5 else 2] for _, _, cell in images], np.uint8)
    content = {"filelist": names, "labels": np.array(labels, np.uint16)[:, None], "camId": cameras, **indices}
    scipy.io.savemat(path, content, do_compression=True)


def _write_mat(path: Path) -> None:
    """A MATLAB 7.3 file: cell arrays are references to objects in '#refs#', all arrays are stored transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        objects = file.create_group("#refs#")

        def stored(values: np.ndarray, matlab_class: str, empty: bool = False) -> h5py.Reference:
            node = objects.create_dataset(f"object{len(objects)}", data=values)
            node.attrs["MATLAB_class"] = np.bytes_(matlab_class)
            if empty:
                node.attrs["MATLAB_empty"] = np.uint8(1)
            return node.ref

        for boxes in ("labeled", "detected"):
            existing = set(_cuhk03_images(boxes))
            pairs = []
            for pair, people in enumerate(PAIRS, start=1):
                cells = np.empty((10, people), h5py.ref_dtype)
                for cell, person in np.ndindex(10, people):
                    place = (pair, person + 1, cell + 1)
                    cells[cell, person] = (
                        stored(cuhk03_pixels(boxes, *place).T, "uint8")
                        if place in existing
                        else stored(np.zeros(2, np.uint64), "double", empty=True)
                    )
                node = objects.create_dataset(f"object{len(objects)}", data=cells, dtype=h5py.ref_dtype)
                node.attrs["MATLAB_class"] = np.bytes_("cell")
                pairs.append(node.ref)
            node = file.create_dataset(boxes, data=np.array([pairs], h5py.ref_dtype), dtype=h5py.ref_dtype)
            node.attrs["MATLAB_class"] = np.bytes_("cell")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Mar  6 20:42:54 2017 HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(header.ljust(116) + bytes(8) + b"\x00\x02IM")


def people(folder: Path, *, cameras: int = 2, images: int = 2) -> Path:
    """One folder per person, with names that tell the camera: anna/cam1_000.jpg."""
    for person, name in enumerate(PERSONS, start=1):
        for camera in range(1, cameras + 1):
            for number in range(images):
                write(folder / name / f"cam{camera}_{number:03d}.jpg", photograph(person, camera, number))
    return folder
