"""TensorBoard: the numbers of every epoch, and in search the alphas and the genotype as pictures."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.drawing import pictures
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.networks import Supernet
from kdas_tf.training.callbacks import OnFirstWorker
from kdas_tf.training.devices.replicas import Strategy
from kdas_tf.training.devices.workers import writes


class Board(OnFirstWorker):
    """Writes every logged number to TensorBoard, and one batch as the network sees it.

    Args:
        folder: of TensorBoard's event files.
        batch: {"image", "label"} of one batch, or None.
        strategy: devices; of several machines only the first one writes.
    """

    def __init__(self, folder: Path, batch=None, *, strategy: Strategy | None = None):
        super().__init__()
        written = strategy is None or writes(strategy)
        self.writer = tf.summary.create_file_writer(str(folder)) if written else tf.summary.create_noop_writer()
        self.batch = batch

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
    that would be derived now, and where skip connections are capped those that there would be without the cap.

    Args:
        supernet: what is searched.
        board: where the pictures go.
        student: arguments of the network that would be derived: num_identities, image_size, channels, cells,
            reductions.
        picture_every: epochs between two pictures.
        max_skip: cap on the skip connections, as in `genotype.derive`.

    Raises:
        UserError: max_skip is no whole number >= 0.
    """

    def __init__(
        self, supernet: Supernet, board: Board, student: dict, *, picture_every: int = 10, max_skip: int | None = None
    ):
        super().__init__()
        self.supernet = supernet
        self.board = board
        self.student = student
        self.picture_every = picture_every
        self.max_skip = max_skip
        self.derived()  # so that a wrong max_skip is refused before the search and not after its first epoch

    def on_epoch_end(self, epoch, logs=None):
        alphas, current = self.alphas(), self.derived()
        if logs is not None:
            for kind in ("normal", "reduce"):
                entropies = genotype.entropies(alphas[f"alpha_{kind}"])
                logs[f"entropies_{kind}"] = entropies
                logs[f"entropy_{kind}"] = float(np.mean(entropies))
            logs["skip_connections"] = _skip_connections(current)
            if self.max_skip is not None:
                logs["skip_connections_uncapped"] = _skip_connections(genotype.derive(*alphas.values()))
            logs["derived_parameters"] = float(derived_parameters(current, **self.student))
        if (epoch + 1) % self.picture_every == 0 or epoch == 0:
            self.board.picture("genotype", pictures.draw_genotype(current, f"After epoch {epoch + 1}"), epoch + 1)
            for name, alpha in alphas.items():
                self.board.picture(name, pictures.alpha_heatmap(alpha, f"{name}, epoch {epoch + 1}"), epoch + 1)

    def derived(self) -> genotype.Genotype:
        """The genotype that would be derived now."""
        return genotype.derive(*self.alphas().values(), max_skip=self.max_skip)

    def alphas(self) -> dict[str, np.ndarray]:
        """The architecture parameters as arrays."""
        return {
            "alpha_normal": np.asarray(keras.ops.convert_to_numpy(self.supernet.alpha_normal)),
            "alpha_reduce": np.asarray(keras.ops.convert_to_numpy(self.supernet.alpha_reduce)),
        }


def _skip_connections(derived: genotype.Genotype) -> float:
    return float(derived.skip_count("normal") + derived.skip_count("reduce"))
