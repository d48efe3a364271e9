"""What the processes of a job do together outside of a step: agree, wait, leave the writing to the first."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.data.pipeline import BatchShard
from kdas_tf.errors import PeerLost, UserError
from kdas_tf.training.devices.replicas import Strategy

_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)

# Seconds in which a file written on one machine has to be seen on the others: NFS remembers names for up to 60.
VISIBLE_WITHIN = 60.0


def number_of_workers(strategy: Strategy) -> int:
    """How many processes train together."""
    return strategy.num_replicas_in_sync // number_of_devices(strategy)


def number_of_devices(strategy: Strategy) -> int:
    """Devices of this process."""
    return len(strategy.extended.worker_devices) if strategy.num_replicas_in_sync > 1 else 1


def own_number(strategy: Strategy) -> int:
    """Number of this process among the workers; the first one is 0."""
    if number_of_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return resolver.task_id if resolver.task_type == "chief" else chiefs + resolver.task_id


def writes(strategy: Strategy) -> bool:
    """Whether this process is the one that writes into the workdir."""
    return own_number(strategy) == 0


def batch_shard_of(strategy: Strategy) -> BatchShard:
    """The rows of every batch that this process makes for its devices."""
    return BatchShard(own_number(strategy), number_of_workers(strategy), number_of_devices(strategy))


def all_values(strategy: Strategy, values: Sequence[float]) -> npt.NDArray[np.float64]:
    """What every worker gives, `[workers, values]`, as many values on each; each waits for the others."""
    own = np.asarray(values, np.float64)[None]
    if number_of_workers(strategy) == 1:
        return own
    gathered = strategy.experimental_local_results(_gather(strategy)(tf.constant(own)))[0].numpy()
    return gathered[:: number_of_devices(strategy)]


@functools.cache
def _gather(strategy: Strategy) -> Callable[[tf.Tensor], Any]:
    def everybody(own):
        return strategy.run(lambda: tf.distribute.get_replica_context().all_gather(tf.identity(own), axis=0))

    return tf.function(everybody)


def run_on_first_worker(strategy: Strategy, action: Callable[[], None]) -> None:
    """Lets the first worker do something while the others wait.

    Raises:
        UserError: it failed; on the others, too.
    """
    error = None
    if writes(strategy):
        try:
            action()
        except Exception as raised:
            error = raised
    failed = all_values(strategy, [error is not None])[0, 0]
    if error is not None:
        raise error
    if failed:
        raise UserError("The first worker could not go on. Its output says why.")


def wait_for(path: Path, *, seconds: float = VISIBLE_WITHIN) -> None:
    """Waits until a file that another worker has written can be seen.

    Raises:
        UserError: it cannot.
    """
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise UserError(
                f"Expected {path}, which the first worker has written, to be seen on this machine, too. Choose a "
                "--workdir on a file system that all machines share."
            )
        time.sleep(0.2)


@contextlib.contextmanager
def noticing_lost_workers(several: bool) -> Iterator[None]:
    """Turns what TensorFlow raises when another worker has ended into `PeerLost`, where there are several."""
    try:
        yield
    except _LOST as error:
        if not several:
            raise
        raise PeerLost(" ".join(str(error).split())[:300]) from error


def alone(strategy: Strategy) -> Strategy:
    """The strategy for a stage that one process does; of several, the one with the first device only."""
    return strategy if number_of_workers(strategy) == 1 else tf.distribute.get_strategy()
