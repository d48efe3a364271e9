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

    The operating system keeps it (flock) and takes it back when the process ends in any way, so it cannot go stale;
    `FILE`, which stays, only says who holds it. Over NFS it holds between machines where the server passes locks on. A
    file system without locks gives a warning, and no protection.

    Raises:
        UserError: another process holds it; the message names that process.
    """
    path = workdir / FILE
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"Expected --workdir={workdir} to be used by one process at a time, but {_holder(path)} uses it. "
                    "Wait for it, stop it, or choose another --workdir."
                ) from None
            logger.warning("%s cannot be locked (%s): do not run two processes in it.", workdir, error.strerror)
        file.truncate(0)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
        file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        entry = files.read_json(path)
        return f"process {entry['pid']} on {entry['host']}, since {entry['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
