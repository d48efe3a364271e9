"""Judges a network between its epochs, and keeps the best one."""

from pathlib import Path
from typing import ClassVar

import keras

from kdas_tf import files
from kdas_tf.models import saved
from kdas_tf.training.devices.workers import writes

BEST = "best"


class BestNetwork(keras.callbacks.Callback):
    """Judges the network in training now and then, logs its numbers, and keeps the best network.

    A subclass says how: `judge`, and `BY`. The best network is chosen by the images that are also reported, so its
    numbers are too high by a little; the last network's are not.

    Args:
        network: in training.
        folder: of the stage; the best network and its numbers go into its folder `BEST`.
        image_size: (height, width) in pixels.
        epochs: of the training; the last one is judged.
        every: epochs between two judgements.
    """

    BY: ClassVar[str]  # name of the number by which networks are compared; the highest is best
    LOGGED_AS: ClassVar[str] = ""  # what the names of the numbers begin with in the logs

    def __init__(self, network: keras.Model, *, folder: Path, image_size: tuple[int, int], epochs: int, every: int = 1):
        super().__init__()
        self.network, self.image_size, self.epochs, self.every = network, image_size, epochs, every
        self.file = folder / BEST / "best.json"
        self.best: dict[str, float] = files.read_json(self.file) if self.file.exists() else {}
        self.last: dict[str, float] | None = None

    def judge(self) -> dict[str, float]:
        """Numbers of the network as it is now; empty where there is nothing to judge by."""
        raise NotImplementedError

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every and epoch + 1 != self.epochs:
            return
        self.last = numbers = self.judge()
        if logs is not None:
            logs.update({self.LOGGED_AS + name: value for name, value in numbers.items()})
        # After a kill between this and the checkpoint the epoch is done again: then its number is not above its own.
        better = bool(numbers) and numbers[self.BY] > self.best.get(self.BY, -1.0)
        if better and writes(self.model.distribute_strategy):
            self.best = {"epoch": epoch + 1, **numbers}
            saved.save(self.network, self.file.parent, image_size=self.image_size)
            files.write_json(self.file, self.best)

    def final(self) -> dict[str, float]:
        """Numbers of the network after the last epoch; judges it where the run was continued after that."""
        return self.last if self.last is not None else self.judge()
