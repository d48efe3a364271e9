"""Keras callbacks: schedules, progress for people, metrics for programs, checkpoints."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.errors import UserError


class OnFirstWorker(keras.callbacks.Callback):
    """A callback that only looks and writes; of several machines, only the first has it."""


class Scheduled(keras.callbacks.Callback):
    """Sets a weight before every epoch, such as the temperature (Algorithm 1, line 4) or a learning rate.

    The schedule gives its value for an epoch, counted from 0. It is logged where `logged_as` gives it a name.
    """

    def __init__(self, variable: keras.Variable, schedule: Callable[[float], float], *, logged_as: str | None = None):
        super().__init__()
        self.variable, self.schedule, self.logged_as = variable, schedule, logged_as

    def on_epoch_begin(self, epoch, logs=None):
        self.variable.assign(self.schedule(epoch))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.logged_as is not None:
            logs[self.logged_as] = float(keras.ops.convert_to_numpy(self.variable))


class FiniteLoss(keras.callbacks.Callback):
    """Stops a run whose objective is no longer finite, before it is checkpointed.

    It looks at the numbers of a step after the next step: the device has computed them by then and does not wait.
    """

    def __init__(self):
        super().__init__()
        self.before: tuple[int, dict] | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.check_steps()
        self.before = (batch + 1, dict(logs or {}))

    def check_steps(self) -> None:
        """Raises UserError where the numbers of the last step are not finite."""
        if self.before is not None:
            (step, logs), self.before = self.before, None
            _check_finite(logs, f"in step {step} of epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self.check_steps()
        _check_finite(logs or {}, f"in epoch {epoch + 1}")


def _check_finite(logs: Mapping[str, Any], when: str) -> None:
    numbers = {name: float(value) for name, value in logs.items() if not isinstance(value, (list, tuple))}
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong:
        finite = [name for name in numbers if name not in wrong]
        raise UserError(
            f"The run has diverged: {', '.join(wrong)} became not finite {when}"
            f"{' (still finite: ' + ', '.join(finite) + ')' if finite else ''}. The checkpoint before it is kept; "
            "lower the learning rate (or limit gradient_norm) and choose a new --workdir."
        )


class MetricsFile(OnFirstWorker):
    """Appends a line of JSON for every epoch to `metrics.jsonl`, which the stages share.

    Lines of the same stage from epochs that are done again (after a kill between two checkpoints), those after
    `start_epoch`, are dropped first.
    """

    def __init__(self, path: Path, stage: str, start_epoch: int):
        super().__init__()
        self.path, self.stage = path, stage
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        kept = "".join(line + "\n" for line in before.splitlines() if not self._is_redone(line, start_epoch))
        if kept != before:
            with files.replacing(path) as partial:
                partial.write_text(kept, encoding="utf-8")

    def _is_redone(self, line: str, start_epoch: int) -> bool:
        try:
            entry = json.loads(line)
            return entry["stage"] == self.stage and entry["epoch"] > start_epoch
        except (ValueError, KeyError, TypeError):
            return True  # cut off when the run was killed

    def on_epoch_end(self, epoch, logs=None):
        values = {
            name: [float(v) for v in value] if isinstance(value, (list, tuple)) else float(value)
            for name, value in (logs or {}).items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": self.stage, "epoch": epoch + 1, **values}) + "\n")


class Progress(OnFirstWorker):
    """Tells people how far a stage is and how long it will take.

    One line an epoch; on a terminal also the step inside the epoch. The first epoch is not counted in the estimate
    once there is a second, because it includes the compilation of the step.

    Args:
        stage: name of the stage.
        epochs: number of epochs of the stage.
        steps: steps in an epoch.
        shown: names of the logged values to show.
        since: `time.monotonic()` when the stage began; the time to the first step counts from there.
    """

    def __init__(self, stage: str, epochs: int, steps: int, shown: tuple[str, ...], *, since: float):
        super().__init__()
        self.stage, self.epochs, self.steps, self.shown, self.since = stage, epochs, steps, shown, since
        self.seconds: list[float] = []
        self.stepped = False
        self.live = sys.stdout.isatty()

    def on_train_begin(self, logs=None):
        print(f"{self.stage}: compiling the first step ...", flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = self.last_shown = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if not self.stepped:
            self.stepped = True
            print(f"{self.stage}: first step {now - self.since:.1f} s after the start of the stage", flush=True)
        if self.live and now - self.last_shown > 1:
            self.last_shown = now
            print(f"\r{self.stage}: step {batch + 1}/{self.steps} ", end="", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.started)
        steady = self.seconds[1:] or self.seconds
        left = sum(steady) / len(steady) * (self.epochs - epoch - 1)
        values = "  ".join(f"{name} {logs[name]:.3f}" for name in self.shown if logs and name in logs)
        start, times = "\r" if self.live else "", f"{self.seconds[-1]:.1f} s  time left {clock(left)}"
        print(f"{start}{self.stage}: epoch {epoch + 1}/{self.epochs}  {values}  {times}", flush=True)


def clock(seconds: float) -> str:
    """Writes a duration as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
