"""What a step computes and keeps, counted without a GPU: nothing is compiled and nothing run."""

import math
from typing import Any

import jax
from jax_networks import Scale
from jax_steps import Trainee, make_batch, policy_of, work

from kdas_tf.models.costs import multiply_adds


def count(name: str, scale: Scale, precision: str) -> dict[str, Any]:
    """Counts one network's step.

    Args:
        name: one of `jax_networks.NETWORKS`.
        scale: sizes.
        precision: one of `jax_measure.PRECISIONS`.

    Returns:
        "parameters"; "multiply_adds" of one image; "operations" of a step by these (two for each, the backward pass as
        two forward); "xla_operations" of a step, all additions and functions included, as XLA counts what it was given;
        "kept_bytes", arrays that one forward pass leaves for the backward pass, before XLA fuses any: more than a GPU
        will hold at once for them.
    """
    size = scale.batch_of(name)
    trainee = Trainee(name, scale, policy_of(precision))
    state, batches = trainee.state(), tuple(make_batch(scale, size, seed) for seed in (0, 1))

    def backward(state: Any, batch: Any) -> Any:
        def loss(weights, alphas):
            return trainee.loss(weights, alphas, state.statistics, batch)

        return jax.vjp(loss, state.weights, state.alphas, has_aux=True)[1]  # a tree of what it keeps

    kept = jax.tree.leaves(jax.eval_shape(backward, state, batches[0]))
    counted = multiply_adds(trainee.network, scale.image_size)
    analysis = jax.jit(trainee.step).lower(state, batches).cost_analysis() or {}
    return {
        "network": name,
        "precision": precision,
        "images": size,
        "parameters": sum(math.prod(variable.shape) for variable in trainee.weights),
        "multiply_adds": counted,
        "operations": work("step", trainee.searched, counted, size),
        "xla_operations": analysis.get("flops", 0.0),
        "kept_bytes": sum(array.size * array.dtype.itemsize for array in kept),
    }


def print_count(row: dict[str, Any]) -> None:
    """Prints one network's numbers."""
    print(
        f"{row['network']:<16} {row['precision']:<9} {row['parameters'] / 1e6:.2f} M parameters, "
        f"{row['multiply_adds'] / 1e9:.3f} G multiply-adds an image; a step of {row['images']} images: "
        f"{row['operations'] / 1e12:.3f} T operations in them, {row['xla_operations'] / 1e12:.3f} T of all kinds by "
        f"XLA's count, {row['kept_bytes'] / 1e9:.2f} GB kept for the backward pass",
        flush=True,
    )
