"""TensorBoard: the numbers of every epoch, and in search the alphas and the genotype as pictures."""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.drawing import pictures
from kdas_tf.training.callbacks import OnFirstWorker
from kdas_tf.training.derivation import Derivation


class Board(OnFirstWorker):
    """Writes every logged number to TensorBoard, and one batch ({"image", "label"}) as the network sees it."""

    def __init__(self, folder: Path, batch=None):
        super().__init__()
        self.folder, self.batch = folder, batch

    @functools.cached_property
    def writer(self) -> tf.summary.SummaryWriter:
        """Writes the event files; made when it is used first, because the other workers must not write."""
        return tf.summary.create_file_writer(str(self.folder))

    def picture(self, name: str, figure, epoch: int) -> None:
        """Writes one figure."""
        with self.writer.as_default():
            tf.summary.image(name, pictures.to_array(figure)[None], step=epoch)

    def on_epoch_end(self, epoch, logs=None):
        if self.batch is not None:  # not before the first step, for which people wait
            images, labels = np.asarray(self.batch["image"])[:16], np.asarray(self.batch["label"])[:16]
            self.picture("batch", pictures.image_grid(images, [str(label) for label in labels]), epoch + 1)
            self.batch = None
        with self.writer.as_default():
            for name, value in (logs or {}).items():
                if isinstance(value, (list, tuple)):
                    tf.summary.histogram(name, value, step=epoch + 1)
                else:
                    tf.summary.scalar(name, value, step=epoch + 1)

    def on_train_end(self, logs=None):
        self.writer.flush()


class ArchitectureLog(OnFirstWorker):
    """Adds to every epoch's logs what a search needs to be trusted, and draws alphas and genotype now and then.

    Logged: the entropy of every edge (nats) and their means, skip connections and trainable parameters of the network
    that would be derived now, and with a cap on skip connections also how many there would be without it. There are
    `picture_every` epochs between two pictures; the first and the last epoch have them, too.
    """

    def __init__(self, derivation: Derivation, board: Board, *, picture_every: int):
        super().__init__()
        self.derivation, self.board, self.picture_every = derivation, board, picture_every
        self._epoch = self._drawn = 0  # counted from 1

    def on_epoch_end(self, epoch, logs=None):
        alphas, current, self._epoch = self.derivation.alphas(), self.derivation.genotype(), epoch + 1
        if logs is not None:
            for kind in ("normal", "reduce"):
                entropies = genotype.entropies(alphas[f"alpha_{kind}"])
                logs[f"entropies_{kind}"] = entropies
                logs[f"entropy_{kind}"] = float(np.mean(entropies))
            logs["skip_connections"] = _skip_connections(current)
            if self.derivation.max_skip is not None:
                logs["skip_connections_uncapped"] = _skip_connections(self.derivation.genotype(capped=False))
            logs["derived_parameters"] = float(self.derivation.parameters())
        if (epoch + 1) % self.picture_every == 0 or epoch == 0:
            self._draw()

    def on_train_end(self, logs=None):
        if self._drawn != self._epoch:
            self._draw()
        self.board.on_train_end()

    def _draw(self) -> None:
        epoch = self._drawn = self._epoch
        self.board.picture(
            "genotype", pictures.draw_genotype(self.derivation.genotype(), f"After epoch {epoch}"), epoch
        )
        for name, alpha in self.derivation.alphas().items():
            self.board.picture(name, pictures.alpha_heatmap(alpha, f"{name}, epoch {epoch}"), epoch)


def _skip_connections(derived: genotype.Genotype) -> float:
    return float(derived.skip_count("normal") + derived.skip_count("reduce"))
