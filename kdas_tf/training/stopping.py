"""SIGTERM: save after the step that runs, or without waiting for what follows an epoch's last step, and end."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import keras

from kdas_tf.errors import Stopped
from kdas_tf.training.checkpoints import Checkpoints, Position
from kdas_tf.training.devices.workers import all_values, number_of_workers, own_number


class StopOnSignal(keras.callbacks.Callback):
    """Saves a checkpoint after the step in which the process is asked to end, and ends it.

    If no step was done since the last checkpoint, the process ends at once, for example while the first step is
    compiled. After the last step of an epoch the network is judged, which may take minutes, before the checkpoint of
    the epoch is made: the judging is broken off, and done again when the run continues.
    Several machines all end after the same step, even if only one of them is asked to.

    Use it as a context around `fit`, as its last callback. `check` is called before a checkpoint is saved, and raises
    where the network is not worth it.
    """

    def __init__(self, checkpoints: Checkpoints, steps_per_epoch: int, check: Callable[[], None] = lambda: None):
        super().__init__()
        self.checkpoints, self.steps_per_epoch, self.check = checkpoints, steps_per_epoch, check
        self.unsaved = self.asked = False
        self.all_steps: Position | None = None  # after the last step of an epoch and until its checkpoint

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
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal changes nothing
            if self.all_steps is not None:
                self._save(self.all_steps)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _handle(self, number, frame) -> None:
        nothing_to_save = not self.unsaved and number_of_workers(self.checkpoints.strategy) == 1
        if nothing_to_save or self.asked or (self.all_steps is not None and not self.checkpoints.saving):
            raise Stopped
        self.asked = True
        print("\nasked to stop; saving after this step ...", file=sys.stderr, flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.unsaved = True
        asked = self._anyone_asked()
        if batch + 1 == self.steps_per_epoch:
            numbers = {name: float(value) for name, value in (logs or {}).items()}
            self.all_steps = Position(self.epoch, batch + 1, (), numbers)
            if asked:
                raise Stopped
        elif asked:
            self._save(Position(self.epoch, batch + 1, values_of(self.model)))
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        self.all_steps, self.unsaved = None, False
        if self._anyone_asked():
            raise Stopped

    def _anyone_asked(self) -> bool:
        return bool(all_values(self.checkpoints.strategy, [self.asked]).any())

    def _save(self, position: Position) -> None:
        self.check()
        self.checkpoints.save(position)


def values_of(model: keras.Model) -> tuple[tuple[float, ...], ...]:
    """What a model's running means hold: of each variable a number for each replica, because each has seen its part.

    The replicas are those of all machines, which must ask at the same time.
    """
    parts = _parts(model)
    own = [float(part.numpy()) for variable in parts for part in variable]
    everywhere = all_values(model.distribute_strategy, own).reshape(-1, len(parts), len(own) // len(parts))
    return tuple(tuple(map(float, values)) for values in everywhere.transpose(1, 0, 2).reshape(len(parts), -1))


def restore_values(model: keras.Model, values: Sequence[Sequence[float]]) -> None:
    """Puts back what `values_of` has read, where an epoch is continued in its middle."""
    worker = own_number(model.distribute_strategy)
    for parts, numbers in zip(_parts(model), values, strict=True):
        own = numbers[worker * len(parts) : (worker + 1) * len(parts)]
        for part, value in zip(parts, own, strict=True):
            part.assign(value)


def _parts(model: keras.Model) -> list[list]:
    variables = [variable.value for metric in model.metrics for variable in metric.variables]
    return [list(getattr(variable, "values", [variable])) for variable in variables]
