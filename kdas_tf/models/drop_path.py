"""Drop-path: a regulariser for networks of cells, off by default."""

from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError


@keras.saving.register_keras_serializable("kdas_tf")
class DropPath(keras.layers.Layer):
    """Leaves out the whole map of some photographs in training, and scales up what is kept.

    output = x * b / (1 - rate), with b of 0 or 1 drawn for each photograph, and P(b = 1) = 1 - rate: the expected value
    is x. In inference the output is x. Source: DARTS, `utils.py:drop_path`.

    The rate is a weight, not trained, so that a callback can raise it from epoch to epoch without compiling the step
    again: `layer.rate.assign(0.2 * epoch / epochs)`, as DARTS does. Each replica draws the same b.

    Args:
        rate: how many maps are left out, from 0 to below 1.
        seed: of the draws; None takes one from the seed of the run.

    Input shape: `[batch, height, width, channels]`. Output shape: the same.

    Raises:
        UserError: a rate outside of 0 to below 1.
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise UserError(f"Expected drop_path to be from 0 to below 1, got {rate}.")
        self.initial_rate = rate
        self.seed = seed
        start = keras.initializers.Constant(rate)
        self.rate = self.add_weight(
            name="rate", shape=(), initializer=start, trainable=False, dtype="float32", autocast=False
        )
        self.generator = keras.random.SeedGenerator(seed)
        # An attribute of the layer, because a generator's state is no weight of it, and so would be in no checkpoint.
        self.generator_state = self.generator.state
        self.built = True

    def call(self, x, training: bool = False):
        if not training:
            return x
        kept = 1.0 - self.rate
        draws = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), dtype="float32", seed=self.generator)
        return x * ops.cast(ops.floor(kept + draws) / kept, x.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.initial_rate, "seed": self.seed}
