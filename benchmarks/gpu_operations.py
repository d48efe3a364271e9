"""Times the parts of a supernet's step on their own, and other ways to compute them, through JAX.

    python benchmarks/gpu_operations.py [--batch 16] [--size 96x32] [--channels 32] [--edges 4] [--only TEXT ...]
        [--precisions bfloat16 tf32] [--cpu]

The sizes are those of the first cell of the paper's supernet. Every row is the forward pass and all gradients of one
operation, compiled; "least" is the time in which the device can copy its inputs, outputs and their gradients once.
"""

import argparse
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def operations(edges: int, channels: int) -> Iterator[tuple[str, Any, list[tuple[int, ...]], list[tuple[int, ...]]]]:
    """Name, function of maps and kernels, leading axes of the maps, and shapes of the kernels."""
    import jax_variants as variants
    from keras import ops

    from kdas_tf.space import edges as ours
    from kdas_tf.space import operations as candidates

    spatial, wide = [(edges, 3, 3, channels, 1)], [(edges, channels, channels)]
    ways = {"kdas_tf": ours.depthwise, "dilated": variants.depthwise_dilated, "shifts": variants.depthwise_by_shifts}
    for dilation in (1, 2):
        for way, depthwise in ways.items():
            yield (
                f"depthwise, dilation {dilation}: {way}",
                lambda x, k, f=depthwise, d=dilation: f(x, k, dilation=d),
                [(edges,)],
                spatial,
            )
    yield "depthwise of a shared map: kdas_tf", ours.depthwise, [(1,)], spatial
    yield "depthwise of a shared map: shifts", variants.depthwise_by_shifts, [(1,)], spatial
    yield "1x1 convolution", ours.pointwise, [(edges,)], wide
    yield "1x1 convolution of a shared map", ours.pointwise, [(1,)], wide
    yield "max pool: kdas_tf", lambda x: candidates._max_pool(x[0], 1), [(1,)], []
    yield "max pool: index", lambda x: variants.max_pool_by_index(x[0], 1), [(1,)], []
    yield "average pool", lambda x: candidates._average_pool(x[0], 1), [(1,)], []
    yield "normalisation", _normalize, [(3 * edges + 2,)], []
    mix = lambda x, w: ops.reshape(ops.matmul(w, ops.reshape(x, (x.shape[0], -1))), (edges, *x.shape[1:]))  # noqa: E731
    yield "mixture", mix, [(3 * edges + 2,)], [(edges, 3 * edges + 2)]


def _normalize(x: Any) -> Any:
    """What `EdgeBatchNorm` does in training, without its moving statistics."""
    from keras import ops

    from kdas_tf.space import edges as ours

    exact = ops.cast(x, "float32")
    mean = ops.mean(exact, (1, 2, 3), keepdims=True)
    return ours._standardize(x, mean, ops.mean(ops.square(exact - mean), (1, 2, 3), keepdims=True), 1e-5)


def main() -> None:
    """Times every operation in every precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", default="96x32", help="HEIGHTxWIDTH of the maps")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--edges", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=[""], help="operations whose name holds one of these")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "tf32"])
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax_measure import median_seconds, products

    rng = np.random.default_rng(0)
    maps = (arguments.batch, *map(int, arguments.size.split("x")), arguments.channels)
    values = jnp.asarray(rng.normal(size=(1 if arguments.cpu else 2000) * 250_000), "float32")
    copy = jax.jit(lambda x: x + 1.0)
    bandwidth = 2 * values.nbytes / median_seconds(lambda: copy(values), 0.5)[0]
    print(f"{jax.devices()[0].device_kind}, copies {bandwidth / 1e12:.2f} TB/s; maps {maps}, {arguments.edges} edges")
    for name, function, leading, kernels in operations(arguments.edges, arguments.channels):
        if not any(text in name for text in arguments.only):
            continue
        for precision in arguments.precisions:
            dtype = "bfloat16" if precision == "bfloat16" else "float32"
            shapes = [(*first, *maps) for first in leading] + kernels
            given = [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]
            output = jax.eval_shape(function, *given)
            upstream = jnp.asarray(rng.normal(size=output.shape), output.dtype)

            def both(upstream, *given, function=function):
                result, pull = jax.vjp(function, *given)
                return result, pull(upstream)

            with products(precision):
                forward = jax.jit(function).lower(*given).compile()
                gradients = jax.jit(both).lower(upstream, *given).compile()
            seconds = [
                median_seconds(functools.partial(forward, *given), 0.3)[0],
                median_seconds(functools.partial(gradients, upstream, *given), 0.3)[0],
            ]
            least = 2 * (sum(x.nbytes for x in given) + upstream.nbytes) / bandwidth
            times = f"{1e3 * seconds[0]:8.3f} {1e3 * seconds[1]:8.3f} {1e3 * least:8.3f}"
            print(f"{name:<42} {precision:<9} {times} ms", flush=True)


if __name__ == "__main__":
    main()
