"""What a search loses when its mixtures become single operations: the drop from the supernet to the derived network."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from kdas_tf.genotype import EDGES, INPUTS, PRIMITIVES, Genotype
from kdas_tf.models.networks import Supernet
from kdas_tf.training.derivation import Derivation
from kdas_tf.training.devices.replicas import Strategy

# An alpha so far above the others, which are 0, that the softmax in float32 is 1 (to the last bit) and exactly 0.
_CHOSEN = 100.0


def discrete_alphas(genotype: Genotype) -> tuple[npt.NDArray, npt.NDArray]:
    """Architecture parameters whose mixtures are a genotype: its operations on its edges, `none` on all others.

    The genotype has at most one operation on each edge, as derivation gives it. The parameters are those of the normal
    and the reduction cells, float32 `[14 edges, 7 candidates]` each.
    """
    both = []
    for pairs in (genotype.normal, genotype.reduce):
        alphas = np.zeros((len(EDGES), len(PRIMITIVES)), np.float32)
        chosen = {(source, INPUTS + position // 2): operation for position, (operation, source) in enumerate(pairs)}
        for row, edge in zip(alphas, EDGES, strict=True):
            row[PRIMITIVES.index(chosen.get(edge, "none"))] = _CHOSEN
        both.append(alphas)
    return both[0], both[1]


def accuracy(
    supernet: Supernet, batches: Sequence[Any], *, strategy: Strategy, alphas: Sequence[npt.NDArray] | None = None
) -> float:
    """Share of images whose identity the classifier of a supernet names, by the statistics of each batch.

    The moving statistics belong to the mixtures, so they would be wrong of single operations. They, and everything
    else, stay as they are. Each device computes the whole of each batch, {"image": `[batch, height, width, 3]`,
    "label": `[batch]`}; the alphas, of the normal and the reduction cells, replace the supernet's.
    """
    replaced = [] if alphas is None else list(zip(supernet.alphas, map(ops.convert_to_tensor, alphas), strict=True))

    def named(images, labels):
        with keras.StatelessScope(state_mapping=replaced):  # one for each replica: they run in threads of their own
            logits = supernet(images, training=True).logits
        return ops.mean(ops.cast(ops.equal(ops.argmax(logits, -1), ops.cast(labels, "int64")), "float32"))

    shares = []
    for batch in batches:
        share = strategy.run(named, (batch["image"], batch["label"]))
        shares.append(float(strategy.experimental_local_results(share)[0]))
    return float(np.mean(shares))


class DiscretizationLog(keras.callbacks.Callback):
    """Logs the accuracy of the supernet on images of D_val, and that of the network that would be derived now.

    Logged now and then and after the last epoch: `val_accuracy` of the supernet as it is, and `val_accuracy_derived` of
    the same supernet with the derived operations only, each on its edge, with the weights that it has. The difference
    is what derivation costs before the derived network is trained; a large difference says that the alphas do not
    describe what the mixtures do (DARTS-PT, Wang et al., ICLR 2021). The batches are kept in memory; there are `every`
    epochs between two measurements.
    """

    def __init__(self, derivation: Derivation, batches: Sequence[Any], *, every: int, epochs: int):
        super().__init__()
        self.derivation, self.batches, self.every, self.epochs = derivation, batches, every, epochs

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and ((epoch + 1) % self.every == 0 or epoch + 1 == self.epochs):
            supernet, strategy = self.derivation.supernet, self.model.distribute_strategy
            alphas = discrete_alphas(self.derivation.genotype())
            logs["val_accuracy"] = accuracy(supernet, self.batches, strategy=strategy)
            logs["val_accuracy_derived"] = accuracy(supernet, self.batches, strategy=strategy, alphas=alphas)
