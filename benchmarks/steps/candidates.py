"""Times every candidate operation at the sizes that the cells of a network have, ours and PyTorch's (torch_student.py).

Sizes are "C H W B CELLS", as in search_step.py. Milliseconds forward and backward together, and forward alone.
"""

import argparse
import json
import sys
from typing import Any

from benchmarks import harness, models
from benchmarks.steps.train_step import PEER, QUICK, SIZES

OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "part_aware")
NAMES = ("ours ms", "forward ms", "PyTorch ms", "PyTorch forward ms")
COLUMNS = {"": "", "C": "d", "map": "", "stride": "d", **dict.fromkeys(NAMES, ".1f")}

Operation = tuple[str, int, int, int, int, int]


def operations_of(size: models.Size) -> list[Operation]:
    """(operation, channels, height, width, stride, batch) of what the cells of a size may hold, each once."""
    from kdas_tf.models.cells import cell_plan

    rows, columns = -(-size.height // 4), -(-size.width // 4)
    shapes: dict[tuple[int, int, int, int], None] = {}
    for cell in cell_plan(size.cells, models.REDUCTIONS[size.cells], size.channels):
        if cell["reduction"]:
            shapes[(cell["channels"], rows, columns, 2)] = None
            rows, columns = -(-rows // 2), -(-columns // 2)
        shapes[(cell["channels"], rows, columns, 1)] = None
    return [
        (name, *shape, size.batch)
        for shape in shapes
        for name in OPERATIONS
        if shape[1] >= 4 and (name, shape[3]) != ("skip_connect", 1)  # the identity does nothing
    ]


def milliseconds(operation: Operation, repeats: int) -> tuple[float, float]:
    """One of ours, forward and backward, and forward alone."""
    import tensorflow as tf

    from kdas_tf.space.mixed import make_operation

    name, channels, height, width, stride, batch = operation
    layer = make_operation(name, channels, stride=stride)
    x = tf.random.normal([batch, height, width, channels])
    layer.build(x.shape)
    gradient = tf.random.normal(layer.compute_output_shape(x.shape))

    @tf.function
    def forward(x):
        return layer(x, training=True)

    @tf.function
    def both(x, gradient):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)], output_gradients=gradient)

    works = {"both": lambda: both(x, gradient)[0].numpy(), "forward": lambda: forward(x).numpy()}
    found = harness.in_turn(works, repeats, warm_up=2)
    return 1e3 * found["both"][0], 1e3 * found["forward"][0]


def measure(size: str, repeats: int, python: str) -> list[dict[str, Any]]:
    """All operations of a size, ours in this process, PyTorch's in another."""
    models.strategy()
    parsed = models.Size.parse(size)
    operations = operations_of(parsed)
    times = [list(milliseconds(operation, repeats)) for operation in operations]
    try:
        arguments = ["", *parsed, "--operations", json.dumps(operations), "--repeats", repeats]
        peer = json.loads(harness.other_python(python, PEER, arguments)[-1])
        times = [[*ours, *(1e3 * seconds for seconds in other)] for ours, other in zip(times, peer, strict=True)]
    except harness.NotMeasured as error:
        print(f"PyTorch is not measured: {error}", file=sys.stderr)
    return [
        {
            "": name,
            "C": channels,
            "map": f"{height}x{width}",
            "stride": stride,
            **dict(zip(NAMES, numbers, strict=False)),
        }
        for (name, channels, height, width, stride, _), numbers in zip(operations, times, strict=True)
    ]


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One for each size."""
    sizes = QUICK if arguments.quick else arguments.sizes
    return [{"size": size, "repeats": arguments.repeats, "python": arguments.peer_python} for size in sizes]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--repeats", type=harness.at_least_1, default=5, help="timed runs of each (default: 5)")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES)
