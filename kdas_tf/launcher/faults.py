"""Faults of the machine, in words: no room, no access, no memory. Nothing here is a fault of the program."""

import errno
import re
from collections.abc import Mapping
from typing import Any

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
SIZES = (
    ("sampling", "Sampling", "identities_per_batch"),
    ("sampling", "Sampling", "images_per_identity"),
    ("network", "CellSettings", "channels"),
)
"""(argument of a stage, class, field) on which memory depends, the first to be lowered first."""


def explain(error: BaseException, stage: str, arguments: Mapping[str, Any]) -> str | None:
    """One line about a fault of the machine in a stage: what happened and what to do.

    Errors are told by their number, or by their text: those of TensorFlow and HDF5 have no number. None stands for an
    error of another kind.
    """
    number = getattr(error, "errno", None)
    text = " ".join(str(error).partition("In call to configurable")[0].split())  # gin adds which call it came through
    what = getattr(error, "filename", None) or re.sub(r"^\[Errno \d+\] ", "", text)[:200]
    if number in NO_ROOM or "No space left on device" in text or "File too large" in text:
        return (
            f"Expected room on the disk for what the stage {stage} writes, but there is none left ({what}). Make room, "
            "and the same command continues after the last checkpoint."
        )
    if number in NO_ACCESS or "Read-only file system" in text:
        return (
            f"Expected to be allowed to read and write what the stage {stage} needs, but access was refused ({what}). "
            "Give access, and the same command continues after the last checkpoint."
        )
    if isinstance(error, MemoryError) or "OOM when allocating" in text:
        return _out_of_memory(text, stage, arguments)
    return None


def _out_of_memory(text: str, stage: str, arguments: Mapping[str, Any]) -> str:
    shape = re.search(r"shape ?\[[\d,]*\]", text)
    failed = f" (the last request: {shape.group()})" if shape else ""
    sizes = [
        (f"{stage}/settings.{owner}.{field}", getattr(arguments.get(name), field, None)) for name, owner, field in SIZES
    ]
    for binding, value in [(f"{stage}.run.batch_size", arguments.get("batch_size")), *sizes]:
        if isinstance(value, int) and value >= 4:
            lower = (
                f"Lower {binding} from {value} to {value // 2}: nearly all of the memory is activations, "
                "which halve with it. It changes the run, so choose a new --workdir; "
            )
            break
    else:
        lower = "Lower the sizes of the stage in a new --workdir; "
    return (
        f"Out of memory in the stage {stage}{failed}. {lower}or share the batch among more devices, or give "
        "--mixed_precision=mixed_bfloat16. --dry_run estimates the memory of a search."
    )
