"""SIGTERM in the middle of an epoch: save after the step that runs, and end."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import keras

from kdas_tf.errors import Stopped
from kdas_tf.training.checkpoints import Checkpoints, Position


class StopOnSignal(keras.callbacks.Callback):
    """Saves a checkpoint after the step in which the process is asked to end, and ends it.

    Where no step was done since the last checkpoint it ends at once, for example while the first step is compiled. In
    the last step of an epoch, and while the network is judged after it, the epoch's own checkpoint is waited for.

    Use it as a context around `fit`, as its last callback.

    Args:
        checkpoints: where to save to.
        start: where the run begins.
        steps_per_epoch: batches in an epoch.
        check: called before a checkpoint is saved; raises where the network is not worth it.
    """

    def __init__(
        self, checkpoints: Checkpoints, start: Position, steps_per_epoch: int, check: Callable[[], None] = lambda: None
    ):
        super().__init__()
        self.checkpoints, self.steps_per_epoch, self.check = checkpoints, steps_per_epoch, check
        self.epoch, self.before = start.epoch, start.step
        self.unsaved = False
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handles SIGTERM inside the block; in the main thread only, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _handle(self, number, frame) -> None:
        if not self.unsaved or self.asked:
            raise Stopped
        self.asked = True
        print("\nasked to stop; saving after this step ...", file=sys.stderr, flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            self.epoch, self.before = epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.unsaved = True
        done = self.before + batch + 1
        if self.asked and done < self.steps_per_epoch:
            self.check()
            self.checkpoints.save(Position(self.epoch, done, values_of(self.model)))
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        if self.asked:
            raise Stopped
        self.unsaved = False


class RestoreMeans(keras.callbacks.Callback):
    """Puts back the running means of an epoch that is continued in its middle, after `fit` has reset them.

    Args:
        means: from `values_of`.
    """

    def __init__(self, means: Sequence[Sequence[float]]):
        super().__init__()
        self.means = means

    def on_epoch_begin(self, epoch, logs=None):
        for parts, values in zip(_parts(self.model), self.means, strict=True):
            for part, value in zip(parts, values, strict=True):
                part.assign(value)


def values_of(model: keras.Model) -> tuple[tuple[float, ...], ...]:
    """What a model's running means hold: of each variable a number for each replica, because each has seen its part."""
    return tuple(tuple(float(part.numpy()) for part in parts) for parts in _parts(model))


def _parts(model: keras.Model) -> list[list]:
    variables = [variable.value for metric in model.metrics for variable in metric.variables]
    return [list(getattr(variable, "values", [variable])) for variable in variables]
