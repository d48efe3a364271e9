"""Where the time of a compiled program goes on a device: kernels, added up by the operation that they are part of."""

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_METADATA = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', re.MULTILINE)
_NUMBER = re.compile(r"_(\d+)$")
KERNELS = 10  # shown
# What a kernel's origin says, first match first.
KINDS = (
    ("optimizer", r"^(?!.*(jvp|transpose)).*(sub|mul|add|sqrt|div)$"),
    ("normalisation", r"norm"),
    ("max_pool", r"max_pool"),
    ("avg_pool", r"avg_pool"),
    ("part_aware", r"part_aware"),
    ("depthwise", r"(sep|dil)_conv.*(conv_general|depthwise|pad|shift)"),
    ("pointwise", r"dot_general"),
    ("skip_connect", r"skip_connect|older|newer"),
    ("stem, head, loss", r"stem|head|log_softmax|triplet"),
    ("convolution", r"conv_general"),
)


def profile(call: Callable[[], Any], program_text: str, calls: int = 3) -> dict[str, Any]:
    """Runs a compiled program under the profiler.

    Args:
        call: runs it once.
        program_text: its optimised HLO, `compiled.as_text()`, which says where each kernel comes from.
        calls: how many runs are profiled.

    Returns:
        Of one call on the device: "total" seconds and "number" of kernels, (seconds, number) by "kinds", and the
        "kernels", the most expensive first, as (seconds, number, name, origin).
    """
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(call())
        (path,) = Path(folder).rglob("*.xplane.pb")
        found = _kernels(jax.profiler.ProfileData.from_file(str(path)))
    origins = dict(_METADATA.findall(program_text))
    kinds: dict[str, tuple[float, float]] = {}
    rows = []
    for (kernel, said), (seconds, number) in found.items():
        # Inside of a CUDA graph only the kernel's name is known, which is that of XLA's operation.
        origin = said or origins.get(_NUMBER.sub(r".\1", kernel), "")
        kind, (spent, often) = kind_of(origin), kinds.get(kind_of(origin), (0.0, 0.0))
        kinds[kind] = (spent + seconds / calls, often + number / calls)
        rows.append((seconds / calls, number / calls, kernel, origin))
    rows.sort(reverse=True)
    return {
        "total": sum(row[0] for row in rows),
        "number": sum(row[1] for row in rows),
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1][0])),
        "kernels": rows[:KERNELS],
    }


def print_profile(found: dict[str, Any]) -> None:
    """Prints where the time of a step goes."""
    print(f"    on the device {1e3 * found['total']:.2f} ms in {found['number']:.0f} kernels")
    for kind, (seconds, number) in found["kinds"].items():
        print(f"    {1e3 * seconds:9.3f} ms  {number:5.0f}  {kind}")
    for seconds, number, kernel, origin in found["kernels"]:
        print(f"    {1e3 * seconds:9.3f} ms  {number:5.0f} x {kernel[:50]}  {origin[-100:]}", flush=True)


def kind_of(origin: str) -> str:
    """What kind of operation of a network a kernel is part of."""
    for kind, pattern in KINDS:
        if re.search(pattern, origin):
            return kind
    return "unknown" if not origin else "the rest"


def _kernels(data: Any) -> dict[tuple[str, str], tuple[float, int]]:
    """Seconds and number of all kernels of the devices, by (kernel, its origin as far as the profile says)."""
    found: dict[tuple[str, str], list] = collections.defaultdict(lambda: [0.0, 0])
    for plane in data.planes:
        if not plane.name.startswith("/device:"):
            continue
        for line in plane.lines:
            if "Stream" not in line.name:
                continue
            for event in line.events:
                entry = found[event.name, str(dict(event.stats).get("name", ""))]
                entry[0] += event.duration_ns / 1e9
                entry[1] += 1
    return {key: (seconds, number) for key, (seconds, number) in found.items()}
