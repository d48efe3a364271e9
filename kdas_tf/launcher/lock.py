"""One process at a time in a workdir."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kdas_tf import files
from kdas_tf.errors import UserError

logger = logging.getLogger(__name__)

FILE = "lock.json"


@contextlib.contextmanager
def holding(workdir: Path) -> Iterator[None]:
    """Holds the lock of a folder inside the block.

    The operating system keeps it (flock) and takes it back when the process ends in any way, so it cannot go stale. The
    folder is locked, and `FILE` in it, which says who holds the lock and stays: if the file is deleted, the folder's
    lock holds; over NFS, which locks no folders, the file's holds between machines where the server passes locks on. A
    file system without locks gives a warning, and no protection.

    Raises:
        UserError: another process holds it; the message names that process.
    """
    path = workdir / FILE
    with contextlib.ExitStack() as held:
        folder = os.open(workdir, os.O_RDONLY)
        held.callback(os.close, folder)
        is_locked = _lock(folder, workdir)
        file = held.enter_context(path.open("a+", encoding="utf-8"))
        is_locked = _lock(file.fileno(), workdir) or is_locked
        if not is_locked:
            logger.warning("%s is on a file system without locks: do not run two processes in it.", workdir)
        file.truncate(0)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
        file.flush()
        yield


def _lock(descriptor: int, workdir: Path) -> bool:
    """Locks an open file or folder until it is closed; whether its file system can."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(
                f"Expected --workdir={workdir} to be used by one process at a time, but {_holder(workdir / FILE)} uses "
                "it. Wait for it, stop it, or choose another --workdir."
            ) from None
        return False
    return True


def _holder(path: Path) -> str:
    try:
        entry = files.read_json(path)
        return f"process {entry['pid']} on {entry['host']}, since {entry['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
