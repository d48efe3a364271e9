"""SIGTERM: save after the step that runs, or without waiting for what follows an epoch's last step, and end."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras

from kdas_tf.errors import Stopped
from kdas_tf.training.checkpoints import Checkpoints, Position


class StopOnSignal(keras.callbacks.Callback):
    """Saves a checkpoint after the step in which the process is asked to end, and ends it.

    Where no step was done since the last checkpoint it ends at once, for example while the first step is compiled.
    After the last step of an epoch, the network is judged before the epoch's own checkpoint is made, which may take
    minutes: this is broken off and done again when the run continues.

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
        self.all_steps: Position | None = None
        """After the last step of an epoch and until its checkpoint."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handles SIGTERM inside the block; in the main thread only, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        except Stopped:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever asks twice gets what the first asked for
            if self.all_steps is not None:
                self._save(self.all_steps)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _handle(self, number, frame) -> None:
        if not self.unsaved or self.asked or (self.all_steps is not None and not self.checkpoints.saving):
            raise Stopped
        self.asked = True
        print("\nasked to stop; saving after this step ...", file=sys.stderr, flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            self.epoch, self.before = epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.unsaved = True
        done = self.before + batch + 1
        if done == self.steps_per_epoch:
            numbers = {name: float(value) for name, value in (logs or {}).items()}
            self.all_steps = Position(self.epoch, done, (), numbers)
            if self.asked:
                raise Stopped
        elif self.asked:
            self._save(Position(self.epoch, done, values_of(self.model)))
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        self.all_steps, self.unsaved = None, False
        if self.asked:
            raise Stopped

    def _save(self, position: Position) -> None:
        self.check()
        self.checkpoints.save(position)


def end_epoch(
    model: keras.Model, epoch: int, logs: Mapping[str, float], callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Does what `fit` does after the last step of an epoch, of which all steps were done before the run was stopped."""
    used = keras.callbacks.CallbackList(list(callbacks), model=model)
    used.on_train_begin()
    used.on_epoch_begin(epoch)
    used.on_epoch_end(epoch, dict(logs))
    used.on_train_end()


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
