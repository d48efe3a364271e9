"""Tells data sets apart by their folders: finds the root of one, and says what a wrong folder looks like."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from kdas_tf.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
NOT_A_FILE = "not a file: a folder or a broken link with the name of an image"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Args:
        name: the data set, for people.
        gin_file: what reads it.
        marks: files and folders, each of which shows this layout.
        parts: its folders; people sometimes give a part instead of the whole.
        expected: what its folder holds, for people.
        advice: what to do about a folder that shows no known layout.
    """

    name: str
    gin_file: str
    marks: tuple[str, ...]
    parts: tuple[str, ...]
    expected: str
    advice: str = "Give the folder that was unpacked from the archive of the data set."

    def mark_in(self, folder: Path) -> str | None:
        """The first mark that the folder has."""
        return next((mark for mark in self.marks if (folder / mark).exists()), None)


MARKET1501 = Layout(
    "Market-1501",
    "gin/data/market1501.gin",
    marks=("bounding_box_train",),
    parts=("bounding_box_train", "query", "bounding_box_test"),
    expected="the folders bounding_box_train, query and bounding_box_test",
)
CUHK03 = Layout(
    "CUHK03",
    "gin/data/cuhk03_labeled.gin (or cuhk03_detected.gin)",
    marks=(
        "cuhk-03.mat",
        "images_labeled",
        "images_detected",
        "cuhk03_new_protocol_config_labeled.mat",
        "cuhk03_new_protocol_config_detected.mat",
    ),
    parts=("images_labeled", "images_detected", "cuhk03_release"),
    expected="cuhk-03.mat, or the folders images_labeled or images_detected, beside the split files,",
)
MSMT17 = Layout(
    "MSMT17",
    "gin/data/msmt17.gin",
    marks=("list_train.txt", "list_query.txt", "list_gallery.txt", "mask_train_v2"),
    parts=("train", "test", "mask_train_v2", "mask_test_v2"),
    expected="list_train.txt, list_query.txt and list_gallery.txt",
    advice="Give the folder MSMT17_V1 or MSMT17_V2 that was unpacked from the archive; it holds the lists, too.",
)
PEOPLE = Layout(
    "one folder per person",
    "gin/data/folders.gin",
    marks=(),
    parts=(),
    expected="one folder per person",
)
BENCHMARKS = (MARKET1501, CUHK03, MSMT17)


def find(root: str | os.PathLike, layout: Layout) -> Path:
    """The folder that shows the layout: `root` or its only sub-folder that does.

    Raises:
        UserError: there is no `root`, or none or several of its folders show the layout. The message says what the
            folder looks like instead.
    """
    folder = existing_folder(root)
    if layout.mark_in(folder):
        return folder
    candidates = [path for path in subfolders(folder) if layout.mark_in(path)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(path.name for path in candidates)
        raise UserError(
            f"Expected one data set in {folder}, but there are {len(candidates)}: {names}. Choose one of them."
        )
    raise UserError(
        f"Expected {layout.expected} in {folder}, but found {_what_is_there(folder, layout)}. "
        f"{part_of_a_benchmark(folder) or look_alike(folder) or _people_in(folder, layout) or layout.advice}",
        code="content",
    )


def existing_folder(
    root: str | os.PathLike, what: str = "the folder of a data set", option: str = "--data_dir"
) -> Path:
    """The absolute path of a folder; raises UserError, with what it should be and where it was given, if it is none."""
    folder = Path(os.path.abspath(os.path.expanduser(root)))
    if not folder.is_dir():
        came = "a file" if folder.is_file() else "nothing"
        raise UserError(f"Expected {what} at {folder}, but there is {came}. Correct {option}.", code="missing")
    return folder


def look_alike(folder: Path) -> str | None:
    """Says which benchmark a folder, or one of its sub-folders, looks like, why, and what reads it; else None."""
    for place in (folder, *subfolders(folder)):
        for layout in BENCHMARKS:
            mark = layout.mark_in(place)
            if mark:
                because = (place / mark).relative_to(folder)
                return f"It looks like {layout.name} (because of {because}): use --gin_file={layout.gin_file}."
    return None


def part_of_a_benchmark(folder: Path) -> str | None:
    """Like `look_alike`, for a folder that is one part of a benchmark."""
    for layout in BENCHMARKS:
        if folder.name in layout.parts and layout.mark_in(folder.parent):
            return (
                f"It looks like a part of {layout.name}: use --gin_file={layout.gin_file} and give its parent, "
                f"{folder.parent}."
            )
    return None


def list_folder(folder: Path) -> list[str]:
    """The names of what a folder holds, in order; raises UserError when it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"Expected to read the folder {folder}, but: {error.strerror}. Check its permissions."
        ) from error


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in order, without those that hide or that archives of macOS add."""
    names = (name for name in list_folder(folder) if not name.startswith((".", "__MACOSX")))
    return [folder / name for name in names if os.path.isdir(folder / name)]


def image_names(folder: Path) -> Iterator[str]:
    """The names of images in a folder, in order; those in its sub-folders are not listed.

    Thumbs.db, .DS_Store and the ._0002_c1s1.jpg that macOS adds to archives are no images.
    """
    for name in list_folder(folder):
        if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES):
            yield name


def image_files(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The paths of images in a folder, in order, and (path, reason) of what only has the name of an image."""
    paths: list[str] = []
    skipped: list[tuple[str, str]] = []
    for path in (os.path.join(folder, name) for name in image_names(folder)):
        if os.path.isfile(path):
            paths.append(path)
        else:
            skipped.append((path, NOT_A_FILE))
    return paths, skipped


def some_of(names: list[str]) -> str:
    """The first four names, in words."""
    return f"{', '.join(names[:4])}{', ...' if names[4:] else ''}"


def _what_is_there(folder: Path, layout: Layout) -> str:
    parts = [part for part in layout.parts if (folder / part).is_dir()]
    if parts:
        return f"only {' and '.join(parts)}"
    entries = list_folder(folder)
    if not entries:
        return "an empty folder"
    return f"none of them among its {len(entries)} entries ({some_of(entries)})"


def _people_in(folder: Path, layout: Layout) -> str | None:
    """Says what reads one folder per person, if it looks so; folders of images of a benchmark are no people."""
    people = [path.name for path in subfolders(folder) if next(image_names(path), None)]
    if len(people) < 2 or any((folder / part).is_dir() for part in layout.parts):
        return None
    return f"It looks like {PEOPLE.name} (because of {some_of(people)}): use --gin_file={PEOPLE.gin_file}."
