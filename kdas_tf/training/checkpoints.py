"""Checkpoints of everything that a run needs to continue: whole or not at all, the last few kept."""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kdas_tf import files
from kdas_tf.errors import UserError
from kdas_tf.training.devices.replicas import Strategy
from kdas_tf.training.devices.workers import all_values, wait_for, writes

logger = logging.getLogger(__name__)

STATE = "state"


class Position(NamedTuple):
    """Where a run is."""

    epoch: int  # number of epochs done
    step: int = 0  # number of steps done in the next epoch
    means: tuple[tuple[float, ...], ...] = ()  # of these steps, the running means as `stopping.values_of` reads them
    logs: Mapping[str, float] = {}  # of the last step, where all steps of the epoch are done, to end the epoch with


class _SavedPosition(tf.train.experimental.PythonState):
    """A position as a part of a checkpoint."""

    position = Position(0)

    def serialize(self):
        return json.dumps(self.position._asdict())

    def deserialize(self, string_value):
        content = json.loads(string_value)
        self.position = Position(**{**content, "means": tuple(map(tuple, content["means"]))})


class Checkpoints:
    """The last checkpoints of one stage, a folder each.

    A checkpoint is written beside its place, forced onto the disk and moved there in one step, so a kill at any moment
    leaves it whole or absent. TensorFlow keeps a checksum of every tensor and of every block of the index, and looks at
    them when it reads.

    Args:
        folder: where the checkpoints are kept.
        parts: what is saved, by name: networks (weights, BN statistics, alphas), optimizers, the temperature.
        keep: how many of the last checkpoints are kept.
        strategy: devices; of several machines only the first one writes, and all restore what it chooses.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Any], *, keep: int = 3, strategy: Strategy | None = None):
        self.folder, self.keep = folder, keep
        self.saving = False
        self.strategy = strategy or tf.distribute.get_strategy()
        self.saved = _SavedPosition()
        # As lists: what Keras keeps in lists of layers, TensorFlow does not find in a model by itself.
        tracked = {
            name: list(part.variables) if isinstance(part, keras.Model) else part for name, part in parts.items()
        }
        self.checkpoint = tf.train.Checkpoint(position=self.saved, **tracked)

    def restore(self) -> Position:
        """Restores the newest checkpoint that is not damaged; returns its position, the beginning where there is none.

        Raises:
            UserError: there are checkpoints, but all are damaged, or they belong to another network.
        """
        own = self._newest() if writes(self.strategy) else Position(0)
        epoch, step = map(int, all_values(self.strategy, own[:2])[0])
        chosen = Position(epoch, step)
        if chosen == Position(0):
            return chosen
        folder = self.folder / _name(chosen)
        wait_for(folder / f"{STATE}.index")
        status = None
        try:
            status = self.checkpoint.read(str(folder / STATE))
            status.assert_consumed()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            if status is not None:
                status.expect_partial()  # or TensorFlow lists all that is different when it ends
            raise UserError(
                f"The checkpoint {folder} was made by a run with other settings than this one, or by another version "
                "of kdas_tf. Continue it with those, choose another --workdir, or delete the stage's folder to start "
                "again."
            ) from error
        return self.saved.position

    def _newest(self) -> Position:
        places = self._places()
        for place, folder in reversed(places.items()):
            damage = damage_of(folder)
            if damage is None:
                return Position(*place)
            logger.warning("The checkpoint %s is damaged: %s. The one before it is used.", folder, damage)
        if places:
            raise UserError(
                f"Expected a checkpoint in {self.folder} that can be read, but there is none. Delete the folder "
                f"{self.folder.parent} to start the stage again."
            )
        return Position(0)

    def all(self) -> list[Path]:
        """Folders of the checkpoints that were completed, the oldest first."""
        return list(self._places().values())

    def _places(self) -> dict[tuple[int, int], Path]:
        places = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", path.name)
            if match:
                places[int(match[1]), int(match[2] or 0)] = path
        return dict(sorted(places.items()))

    def save(self, position: Position) -> None:
        """Saves a checkpoint, then removes those that are too old.

        Raises:
            UserError: it cannot be written. The checkpoints before it are kept.
        """
        if not writes(self.strategy):
            return
        name = _name(position)
        partial = self.folder / f"partial.{name}"
        self.saving, self.saved.position = True, position
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir(parents=True)
            self.checkpoint.write(str(partial / STATE))
            for path in (*partial.iterdir(), partial):
                files.flush(path)
            shutil.rmtree(self.folder / name, ignore_errors=True)  # a damaged one, or one of steps done again
            partial.rename(self.folder / name)
            files.flush(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(
                f"Expected to write the checkpoint {self.folder / name}, but it failed ({_reason(error)}). The ones "
                "before it are kept: make room or give access, and the same command continues."
            ) from error
        finally:
            self.saving = False
        self.remove_all_but(self.keep)

    def remove_all_but(self, last: int) -> None:
        """Removes the oldest checkpoints, so that at most so many are left."""
        if writes(self.strategy):
            for old in self.all()[:-last]:
                shutil.rmtree(old, ignore_errors=True)


def _name(position: Position) -> str:
    return f"epoch_{position.epoch}" + (f"_step_{position.step}" if position.step else "")


def damage_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None where all of it can be read as it was written."""
    try:
        reader = tf.train.load_checkpoint(str(folder / STATE))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:  # the last three by pybind11
        return f"{type(error).__name__}: {_reason(error)}"
    return None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error).rpartition("; ")[2].partition(" [Op:")[0]
    return " ".join((text or type(error).__name__).split())[:200]
