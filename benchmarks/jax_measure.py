"""Times compiled functions on a JAX device: medians, memory, compile time, and what the device can reach at best."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PRECISIONS = ("float32", "tf32", "bfloat16")
_MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
SECONDS = 2.0  # of timed calls
FEWEST, MOST = 5, 200


def products(precision: str) -> Any:
    """Context in which JAX' products of float32 have a precision: all 24 bits ("float32"), or the 11 of TF32."""
    return jax.default_matmul_precision(_MATMUL[precision])


def median_seconds(call: Callable[[], Any], seconds: float = SECONDS) -> tuple[float, int]:
    """Median time of a call that returns arrays, waited for, and how many were timed."""
    for _ in range(2):
        jax.block_until_ready(call())
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < FEWEST or (time.perf_counter() - began < seconds and len(times) < MOST):
        since = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - since)
    return statistics.median(times), len(times)


def back_to_back_seconds(call: Callable[[], Any], number: int = 20) -> float:
    """Time of a call when the next is given before it has ended: the device's time where the host is faster."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    for _ in range(number):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - began) / number


class Compiled:
    """A pure function of a state and a batch, compiled for them.

    Args:
        function: returns a new state as the first of its results if `donate`.
        state: tree of NumPy arrays.
        batch: likewise.
        precision: one of `PRECISIONS`.
        donate: let the new state take the memory of the old one.
    """

    def __init__(self, function: Callable, state: Any, batch: Any, precision: str, *, donate: bool):
        self.donate = donate
        began = time.perf_counter()
        with products(precision):
            lowered = jax.jit(function, donate_argnums=(0,) if donate else ()).lower(state, batch)
        self.trace_seconds = time.perf_counter() - began
        began = time.perf_counter()
        self.program = lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        self.state, self.batch = jax.device_put(state), jax.device_put(batch)

    def __call__(self) -> Any:
        result = self.program(self.state, self.batch)
        if self.donate:
            self.state = result[0]
        return result

    def measure(self) -> dict[str, float]:
        """Seconds, bytes and operations of one call; the last two as XLA counts its compiled program.

        `peak_bytes` is what the compiled program needs at most: arguments, results that take no argument's place, and
        temporary memory. `device_peak_bytes` is the most that this process ever held on the device.
        """
        seconds, calls = median_seconds(self)
        memory, cost = self.program.memory_analysis(), _first(self.program.cost_analysis())
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        return {
            "seconds": seconds,
            "calls": calls,
            "back_to_back_seconds": back_to_back_seconds(self, max(3, min(20, int(SECONDS / seconds)))),
            "trace_seconds": self.trace_seconds,
            "compile_seconds": self.compile_seconds,
            "peak_bytes": held + memory.temp_size_in_bytes,
            "temporary_bytes": memory.temp_size_in_bytes,
            "device_peak_bytes": peak_bytes_so_far(),
            "xla_operations": cost.get("flops", 0.0),
            "xla_bytes": cost.get("bytes accessed", 0.0),
        }


def _first(analysis: Any) -> dict[str, float]:
    """XLA's analysis, which some versions of JAX give in a list."""
    return (analysis[0] if isinstance(analysis, list) else analysis) or {}


def peak_bytes_so_far() -> int:
    """Most bytes that this process held on the device; 0 where the device does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def ceilings(size: int, megabytes: int) -> Iterator[tuple[str, float]]:
    """What the device reaches: operations a second in a large matrix product, and bytes a second in a copy.

    Args:
        size: rows and columns of the matrices.
        megabytes: of the array that is copied; bytes read and written both count.
    """
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(2, size, size)).astype("float32")
    for precision in PRECISIONS:
        a, b = jnp.asarray(factors, "bfloat16" if precision == "bfloat16" else "float32")
        with products(precision):
            product = jax.jit(jnp.matmul).lower(a, b).compile()
        yield precision, 2 * size**3 / median_seconds(lambda p=product, a=a, b=b: p(a, b), 1.0)[0]
    values = jnp.asarray(rng.normal(size=megabytes * 250_000), "float32")
    copy = jax.jit(lambda x: x + 1.0)
    yield "copy", 2 * values.nbytes / median_seconds(lambda: copy(values), 1.0)[0]
