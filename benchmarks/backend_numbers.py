"""Outputs, statistics and gradients of small networks on one of Keras' backends, to be compared with another's.

    KERAS_BACKEND=tensorflow python benchmarks/backend_numbers.py tensorflow.npz
    KERAS_BACKEND=jax python benchmarks/backend_numbers.py jax.npz --compare tensorflow.npz

Weights and batches are the same numbers on every backend. With --compare the largest differences are printed, and the
exit code is 1 if one is above --tolerance.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-3
NAMES = ("Auto-ReID", "searched", "supernet")


def numbers(name: str, scale: Any, policy: str = "float32") -> dict[str, np.ndarray]:
    """The loss of a random batch, the features, the statistics after it and all gradients, by name.

    Args:
        name: one of `jax_networks.NETWORKS`.
        scale: sizes.
        policy: of Keras.
    """
    from jax_steps import Trainee, keras_backend, make_batch

    trainee = Trainee(name, scale, policy)
    state, batch = trainee.state(), make_batch(scale, scale.batch_of(name), 0)
    gradient, features = {"jax": _on_jax, "tensorflow": _on_tensorflow}[keras_backend()](trainee, state, batch)
    (loss, statistics), gradients = gradient
    found = {"loss": loss, "features": features}
    variables = [*trainee.weights, *trainee.alphas]
    found |= {f"gradient {v.path}": g for v, g in zip(variables, [*gradients[0], *gradients[1]], strict=True)}
    others = trainee.network.non_trainable_variables
    found |= {f"statistic {v.path}": s for v, s in zip(others, statistics, strict=True)}
    return {f"{name}: {key}": np.asarray(value, np.float64) for key, value in found.items()}


def _on_jax(trainee: Any, state: Any, batch: Any) -> tuple[Any, Any]:
    import jax

    def features(state, batch):
        return trainee.outputs(*state[:3], batch.images, training=True)[0].features

    with jax.default_matmul_precision("highest"):
        return jax.jit(trainee.gradient)(state, batch), jax.jit(features)(state, batch)


def _on_tensorflow(trainee: Any, state: Any, batch: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    @tf.function
    def run(weights, alphas, statistics, batch):
        with tf.GradientTape() as tape:
            tape.watch([weights, alphas])
            loss, updated = trainee.loss(weights, alphas, statistics, batch)
        gradients = tape.gradient(loss, [weights, alphas])
        return ((loss, updated), gradients), trainee.outputs(weights, alphas, statistics, batch.images, training=True)[
            0
        ].features

    given = tf.nest.map_structure(tf.convert_to_tensor, [list(values) for values in state[:3]])
    return run(*given, type(batch)(*map(tf.convert_to_tensor, batch)))


def differences(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> list[tuple[float, str]]:
    """||found - expected|| / ||expected|| of every array, the largest first.

    What is zero but for rounding, as the gradient of an offset before a normalisation or the mean after one, counts
    against a thousandth of the largest array of its kind and network.
    """
    if set(found) != set(expected):
        raise SystemExit(f"not the same arrays: {sorted(set(found) ^ set(expected))[:5]}")
    largest: dict[str, float] = {}
    for key, value in expected.items():
        largest[_kind(key)] = max(largest.get(_kind(key), 0.0), float(np.linalg.norm(value)))
    result = []
    for key, value in expected.items():
        size = max(float(np.linalg.norm(value)), 1e-3 * largest[_kind(key)], 1e-30)
        error = float(np.linalg.norm(found[key] - value)) / size
        result.append((error if np.isfinite(error) else float("inf"), key))
    return sorted(result, reverse=True)


def _kind(key: str) -> str:
    """The network and whether it is a gradient or a statistic: "supernet: gradient"."""
    return " ".join(key.split()[:2])


def main() -> None:
    """Writes the numbers of this process' backend, and compares them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="to write, .npz")
    parser.add_argument("--compare", type=Path, help="written before, on another backend")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jax_networks import TINY

    found = {key: value for name in arguments.only for key, value in numbers(name, TINY).items()}
    np.savez(arguments.file, **found)
    if arguments.compare:
        with np.load(arguments.compare) as expected:
            worst = differences(found, {key: expected[key] for key in found})
        for error, key in worst[:5]:
            print(f"{error:.1e} {key}")
        print(f"{len(worst)} arrays compared, largest relative difference {worst[0][0]:.1e}")
        sys.exit(worst[0][0] > arguments.tolerance)


if __name__ == "__main__":
    main()
