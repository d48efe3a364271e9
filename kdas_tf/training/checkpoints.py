"""Checkpoints of everything that a run needs to continue: whole or not at all, with checksums, the last few kept."""

import json
import logging
import os
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
POSITION = "position.json"
CHECKSUMS = "checksums.json"


class Position(NamedTuple):
    """Where a run is.

    Attributes:
        epoch: number of epochs done.
        step: number of steps done in the next one.
        means: of these steps, what `stopping.values_of` has read from the running means.
        logs: where they are all steps of the epoch, what the last one has logged, to end the epoch with.
    """

    epoch: int
    step: int = 0
    means: tuple[tuple[float, ...], ...] = ()
    logs: Mapping[str, float] = {}


class Checkpoints:
    """The last checkpoints of one stage, a folder each.

    A checkpoint is written beside its place, forced onto the disk and moved there in one step, so a kill at any moment
    leaves it whole or absent. `CHECKSUMS` holds SHA-256 and size of its files.

    Args:
        folder: where they are kept.
        parts: what is saved, by name: networks (weights, BN statistics, alphas), optimizers, the temperature.
        keep: how many of the last checkpoints are kept.
        strategy: devices; of several machines only the first one writes, and all restore what it chooses.

    Raises:
        UserError: `keep` is below 1.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Any], *, keep: int = 3, strategy: Strategy | None = None):
        if keep < 1:
            raise UserError(f"Expected keep_checkpoints of at least 1, got {keep}. Keep 2, in case one is damaged.")
        self.folder, self.keep = folder, keep
        self.saving = False
        self.strategy = strategy or tf.distribute.get_strategy()
        # As lists: what Keras keeps in lists of layers, TensorFlow does not find in a model by itself.
        tracked = {
            name: list(part.variables) if isinstance(part, keras.Model) else part for name, part in parts.items()
        }
        self.checkpoint = tf.train.Checkpoint(**tracked)

    def restore(self) -> Position:
        """Restores the newest checkpoint that is not damaged.

        Returns:
            Where it was made; the beginning where there is none.

        Raises:
            UserError: there are checkpoints, but all are damaged, or they belong to another network.
        """
        own = self._newest() if writes(self.strategy) else Position(0)
        epoch, step = (int(number) for number in all_values(self.strategy, own[:2])[0])
        chosen = Position(epoch, step)
        if chosen == Position(0):
            return chosen
        folder = self.folder / _name(chosen)
        wait_for(folder / CHECKSUMS)
        return self._read(folder)

    def _newest(self) -> Position:
        found = self._found()
        for place, folder in reversed(found.items()):
            damage = damage_of(folder)
            if damage is None:
                return Position(*place)
            logger.warning("The checkpoint %s is damaged: %s. The one before it is used.", folder, damage)
        if found or (self.folder / "checkpoint").exists():  # the second is what older versions left
            raise UserError(
                f"Expected a checkpoint in {self.folder} that can be read, but there is none. Delete the folder "
                f"{self.folder.parent} to start the stage again."
            )
        return Position(0)

    def _read(self, folder: Path) -> Position:
        try:
            self.checkpoint.read(str(folder / STATE)).assert_consumed()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise UserError(
                f"The checkpoint {folder} was made by a run with other settings than this one. Give the settings of "
                "that run, choose another --workdir, or delete the stage's folder to start again."
            ) from error
        content = files.read_json(folder / POSITION)
        return Position(content["epoch"], content["step"], tuple(map(tuple, content["means"])), content.get("logs", {}))

    def all(self) -> list[Path]:
        """Folders of the checkpoints that were completed, the oldest first."""
        return list(self._found().values())

    def _found(self) -> dict[tuple[int, int], Path]:
        found = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", path.name)
            if match:
                found[int(match[1]), int(match[2] or 0)] = path
        return dict(sorted(found.items()))

    def save(self, position: Position) -> None:
        """Saves a checkpoint, then removes those that are too old.

        Raises:
            UserError: it cannot be written. The checkpoints before it are kept.
        """
        if not writes(self.strategy):
            return
        name = _name(position)
        partial = self.folder / f"partial.{name}"
        self.saving = True
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir(parents=True)
            self.checkpoint.write(str(partial / STATE))
            (partial / POSITION).write_text(json.dumps(position._asdict()) + "\n", encoding="utf-8")
            sums = {path.name: [path.stat().st_size, files.sha256(path)] for path in sorted(partial.iterdir())}
            files.write_json(partial / CHECKSUMS, sums)
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
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)


def _name(position: Position) -> str:
    return f"epoch_{position.epoch}" + (f"_step_{position.step}" if position.step else "")


def damage_of(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where they are as they were written."""
    try:
        sums = dict(files.read_json(folder / CHECKSUMS))
        if not {POSITION, f"{STATE}.index"} <= set(sums):
            return f"{CHECKSUMS} does not list all files"
        for name, (size, digest) in sums.items():
            path = folder / os.path.basename(name)
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if files.sha256(path) != digest:
                return f"{name} is not what was written"
    except (OSError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error).rpartition("; ")[2].partition(" [Op:")[0]
    return " ".join((text or type(error).__name__).split())[:200]
