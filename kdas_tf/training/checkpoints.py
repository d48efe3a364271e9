"""Checkpoints of everything that a run needs to continue where it was."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.errors import UserError

logger = logging.getLogger(__name__)


class Checkpoints:
    """The last checkpoints of one stage, with the number of epochs they hold.

    Args:
        folder: where they are kept.
        parts: what is saved, by name: networks (weights, BN statistics, alphas), optimizers, the temperature.
        keep: how many of the last checkpoints are kept.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Any], *, keep: int = 3):
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epochs_done")
        # As lists: what Keras keeps in lists of layers, TensorFlow does not find in a model by itself.
        tracked = {
            name: list(part.variables) if isinstance(part, keras.Model) else part for name, part in parts.items()
        }
        self.checkpoint = tf.train.Checkpoint(epoch=self.epoch, **tracked)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(folder), max_to_keep=keep)

    def restore(self) -> int:
        """Restores the newest checkpoint that can be read.

        Returns:
            The number of epochs done, 0 where there is no checkpoint.

        Raises:
            UserError: there are checkpoints, but none can be read, or they belong to another network.
        """
        for path in reversed(self.manager.checkpoints):
            try:
                self.checkpoint.restore(path).assert_consumed()
            except (tf.errors.OpError, OSError) as error:
                logger.warning(
                    "The checkpoint %s is damaged (%s); trying the one before it.", path, type(error).__name__
                )
            except (ValueError, AssertionError) as error:
                raise UserError(
                    f"The checkpoint {path} was made by a run with other settings than this one. Give the settings of "
                    "that run, choose another --workdir, or delete the stage's folder to start again."
                ) from error
            else:
                return int(self.epoch.numpy())
        if self.manager.checkpoints:
            raise UserError(
                f"No checkpoint in {self.manager.directory} can be read. Delete that folder to start the stage again."
            )
        return 0

    def save(self, epochs_done: int) -> None:
        """Saves a checkpoint; the one before it stays until this one is complete."""
        self.epoch.assign(epochs_done)
        self.manager.save(checkpoint_number=epochs_done)
