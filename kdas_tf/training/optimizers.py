"""The optimizers of section 4.2, as functions of plain numbers."""

import keras


def momentum_sgd(
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    gradient_norm: float | None = None,
) -> keras.optimizers.Optimizer:
    """SGD for the supernet's weights (section 4.2.1).

    Args:
        learning_rate: at the start; the search lowers it by a cosine.
        momentum: of the gradient.
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        gradient_norm: scale the gradient down to this global norm; DARTS uses 5, the paper does not say.
    """
    return keras.optimizers.SGD(
        learning_rate, momentum=momentum, weight_decay=weight_decay, global_clipnorm=gradient_norm
    )


def adam(
    *, learning_rate: float = 3.5e-4, weight_decay: float = 5e-4, beta_1: float = 0.9, beta_2: float = 0.999
) -> keras.optimizers.Optimizer:
    """Adam for the architecture parameters (0.02, section 4.2.1) and for training (3.5e-4, section 4.2.2).

    Args:
        learning_rate: at the start.
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        beta_1: decay of the gradient's mean (DARTS uses 0.5 for alpha, the paper does not say).
        beta_2: decay of its square.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, weight_decay=weight_decay)
