"""Reads CUHK03 (Li et al. 2014, "DeepReID") in the new protocol (Zhong et al. 2017, "Re-ranking ... k-reciprocal")."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.io

from kdas_tf import files
from kdas_tf.data import counts, cuhk03_images, layouts
from kdas_tf.data.records import Progress, Record, ReIDData
from kdas_tf.errors import UserError

MISSING = "missing: the split file names it, but there is no such file"

PUBLISHED = {
    "labeled": {"train": (7_368, 767), "query": (1_400, 700), "gallery": (5_328, 700)},
    "detected": {"train": (7_365, 767), "query": (1_400, 700), "gallery": (5_332, 700)},
}

_VARIABLES = ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split file: one name, identity and camera per image, and the positions of the images of each split."""

    names: list[str]
    identities: list[int]
    cameras: list[int]
    train: list[int]
    query: list[int]
    gallery: list[int]


def read(
    root: str | os.PathLike,
    *,
    name: str = "CUHK03",
    boxes: Literal["labeled", "detected"] = "labeled",
    extract_to: str | None = None,
    extract: bool = True,
    progress: Progress | None = None,
) -> ReIDData:
    """Reads the images that `cuhk03_new_protocol_config_labeled.mat` (or `_detected`) names.

    The images are the files of the folder `images_labeled` (or `images_detected`). Images that it lacks are taken out
    of `cuhk-03.mat` once, without loading that file whole. Identities and cameras come from the split file: one
    identity for each of the 1,467 people, cameras 1 and 2 of the person's camera pair.

    Args:
        root: the folder that holds `cuhk-03.mat` (also in `cuhk03_release`) or the folder of images, and the split
            file; or a folder that holds exactly one such folder.
        name: name of the data set, for people.
        boxes: 'labeled', drawn by people, or 'detected', found by a detector.
        extract_to: folder in which the folder of images is looked for and made; None: beside `cuhk-03.mat`.
        extract: False only lists the images, without taking any out of `cuhk-03.mat`.
        progress: told of every image that is taken out.

    Returns:
        The records, in the order of the split file, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, no such data set in it, the split file or `cuhk-03.mat` is missing or damaged,
            the images cannot be written, or there is no training image.
    """
    if boxes not in PUBLISHED:
        raise UserError(f"Expected cuhk03.read.boxes to be 'labeled' or 'detected', but got {boxes!r}. Correct it.")
    folder = layouts.find(root, layouts.CUHK03)
    split = read_split(_split_file(folder, boxes))
    mat = _first(folder / "cuhk-03.mat", folder / "cuhk03_release" / "cuhk-03.mat")
    images = _image_folder(folder, mat, boxes, extract_to)
    present = set(layouts.list_folder(images)) if images.is_dir() else set()
    absent = [file for file in split.names if file not in present]
    unusable: dict[str, str] = {}
    if absent and mat is None:
        unusable = dict.fromkeys(absent, MISSING)
    elif absent and mat is not None and extract:
        unusable = cuhk03_images.extract(mat, boxes, absent, images, progress=progress)
    data = _gather(name, split, images, unusable)
    if not data.train:
        reasons = counts.count_reasons(data.skipped)
        raise UserError(
            f"Expected the training images of CUHK03 in {images}, but none can be used ({reasons}). Put cuhk-03.mat "
            f"or the extracted images, named like 1_001_1_01.png in a folder {images.name}, into {folder}."
        )
    counts.warn_about_evaluation(data, folder)
    counts.warn_unless_published(data, PUBLISHED[boxes])
    return data


def read_split(path: Path) -> Split:
    """Reads a split file of the new protocol (MATLAB 5; its indices count from 1).

    Raises:
        UserError: it is damaged or something else.
    """
    try:
        return _checked(_variables(path))
    except ValueError as error:
        raise UserError(
            f"Expected a split file of CUHK03's new protocol in {path}, but it cannot be used "
            f"({' '.join(str(error).split())}). {_where_from(path.name)}"
        ) from error


def _variables(path: Path) -> dict[str, npt.NDArray]:
    """The variables of a split file, each `[n]`; raises ValueError if they cannot be read."""
    try:
        # Data only: scipy does not evaluate MATLAB's objects and functions.
        with files.open_file(path) as file:
            content = scipy.io.loadmat(file, appendmat=False, variable_names=_VARIABLES)
    except Exception as error:  # scipy's reader raises many kinds on a damaged file
        raise ValueError(f"{type(error).__name__}: {error}") from error
    absent = [variable for variable in _VARIABLES if variable not in content]
    if absent:
        raise ValueError(f"there is no {' and no '.join(absent)}")
    return {variable: content[variable].ravel() for variable in _VARIABLES}


def _checked(content: dict[str, npt.NDArray]) -> Split:
    """Raises ValueError unless the variables fit together."""
    names = ["".join(map(str, np.ravel(cell))) for cell in content["filelist"]]
    wrong = next((name for name in names if not cuhk03_images.NAME.fullmatch(name)), None)
    if wrong is not None:
        raise ValueError(f"expected names like 1_001_1_01.png in filelist, got {wrong!r}")
    numbers = {}
    for variable in _VARIABLES[1:]:
        values = content[variable]
        if values.dtype.kind not in "iuf" or (values % 1 != 0).any():
            raise ValueError(f"{variable} holds something else than whole numbers")
        numbers[variable] = values.astype(np.int64)
    if not len(names) == len(numbers["labels"]) == len(numbers["camId"]):
        raise ValueError("filelist, labels and camId have different lengths")
    if (numbers["labels"] < 1).any():
        raise ValueError("a label is below 1")
    splits = {}
    for split in ("train", "query", "gallery"):
        indices = numbers[f"{split}_idx"] - 1
        if ((indices < 0) | (indices >= len(names))).any():
            raise ValueError(f"{split}_idx does not lie in 1..{len(names)}")
        splits[split] = indices.tolist()
    return Split(names, numbers["labels"].tolist(), numbers["camId"].tolist(), **splits)


def _gather(name: str, split: Split, images: Path, unusable: dict[str, str]) -> ReIDData:
    def records(indices: list[int]) -> tuple[Record, ...]:
        return tuple(
            Record(os.path.join(images, split.names[i]), split.identities[i], split.cameras[i])
            for i in indices
            if split.names[i] not in unusable
        )

    skipped = tuple((os.path.join(images, file), reason) for file, reason in unusable.items())
    return ReIDData(name, records(split.train), records(split.query), records(split.gallery), skipped)


def _split_file(folder: Path, boxes: str) -> Path:
    name = f"cuhk03_new_protocol_config_{boxes}.mat"
    path = _first(folder / name, folder / "cuhk03_release" / name, folder.parent / name)
    if path is None:
        raise UserError(f"Expected the split file {name} in {folder}, but it is missing. {_where_from(name)}")
    return path


def _where_from(name: str) -> str:
    return (
        f"Copy {name} from https://github.com/zhunzhong07/person-re-ranking (CUHK03-NP), folder "
        "evaluation/data/CUHK03, where it is distributed, into the folder of the data set."
    )


def _image_folder(folder: Path, mat: Path | None, boxes: str, extract_to: str | None) -> Path:
    name = f"images_{boxes}"
    if extract_to is not None:
        return Path(os.path.abspath(os.path.expanduser(extract_to))) / name
    beside = (mat.parent if mat else folder) / name
    return _first(folder / name, beside) or beside


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.exists()), None)
