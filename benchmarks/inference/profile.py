"""Says what the time of ONNX Runtime goes into, by kind of operation, and how near each kind is to the machine's speed.

Profiles the networks of speed.py, on one thread by default; every operation counts with its fastest of ten runs.
Numbers are of one image: multiply-adds (G) and inputs and outputs as if nothing stayed in a cache (MB). The first rows
are what the machine reaches: a 3x3 convolution of 128 channels, a ReLU of 1 MB and one of 16 MB. "at the machine's
speed" is what all operations of a float32 network would take at the first two.
"""

import argparse
import collections
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.inference import speed
from benchmarks.inference.networks import folder_of, prepare
from benchmarks.inference.runtimes import IMAGES, as_pixels, runtime_of

RUNS = 10  # the fastest of them counts, operation by operation
COLUMNS = {
    "size": "",
    "": "",
    "batch": "",
    "kind": "",
    "number": ".0f",
    "ms": ".2f",
    "%": ".0f",
    "G": ".3f",
    "G/s": ".1f",
    "MB": ".1f",
    "GB/s": ".1f",
}


def kind_of(operation: str, kernel: list[int] | None) -> str:
    """Name of a kind of operation; convolutions are told apart by their kernels `[filters, inputs / groups, ...]`."""
    if kernel is None:
        return operation
    _, per_group, height, width = kernel
    return f"{'depthwise' if per_group == 1 else 'convolution'} {height}x{width}"


def multiply_adds(operation: str, first: list[int], kernel: list[int] | None, output: list[int]) -> int:
    """Of the whole batch; 0 for what is neither a convolution nor a matrix product. `first` is the first input."""
    if kernel is not None:
        return math.prod(output) * math.prod(kernel[1:])
    return math.prod(output) * first[-1] if operation in ("MatMul", "Gemm", "FusedGemm", "FusedMatMul") else 0


def profile(path: Path, pixels: Any, threads: int) -> dict[str, dict[str, float]]:
    """Runs a network; per kind of operation its number, seconds, multiply-adds and bytes of one run.

    Bytes are those of all inputs and outputs that the profile names, as if nothing stayed in a cache; of integer
    convolutions it does not name the kernels.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder, "optimized.onnx")
        session, argument = open_session(path, threads, profile=str(Path(folder, "profile")), optimized=optimized)
        for _ in range(RUNS):
            session.run(None, {argument: pixels})
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels = _kernels(optimized)
    fastest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            if name not in fastest or event["dur"] < fastest[name]["dur"]:
                fastest[name] = event
    kinds: dict[str, dict[str, float]] = collections.defaultdict(lambda: collections.defaultdict(float))
    for name, event in fastest.items():
        inputs, outputs = event["args"]["input_type_shape"], event["args"]["output_type_shape"]
        operation, kernel = event["args"]["op_name"], kernels.get(name)
        first, output = (next(iter(each[0].values())) if each else [] for each in (inputs, outputs))
        kind = kinds[kind_of(operation, kernel)]
        kind["number"] += 1
        kind["seconds"] += event["dur"] / 1e6
        kind["multiply_adds"] += multiply_adds(operation, first, kernel, output)
        kind["bytes"] += sum(map(_bytes, (*inputs, *outputs)))
    return kinds


def _kernels(path: Path) -> dict[str, list[int]]:
    """The shapes of the kernels of all convolutions in the graph that ONNX Runtime made of a network, by name."""
    import onnx

    graph = onnx.load(path).graph
    shapes = {constant.name: list(constant.dims) for constant in graph.initializer}
    places = {"Conv": 1, "FusedConv": 1, "QLinearConv": 3}
    return {node.name: shapes[node.input[places[node.op_type]]] for node in graph.node if node.op_type in places}


def _bytes(described: dict[str, list[int]]) -> int:
    sizes = {"float": 4, "int8": 1, "uint8": 1, "int64": 8, "int32": 4}
    return sum(sizes.get(kind, 4) * math.prod(shape) for kind, shape in described.items())


def open_session(
    path: Path | bytes, threads: int, profile: str | None = None, optimized: Path | None = None
) -> tuple[Any, str]:
    """A session on so many threads, and the name of its input; it writes what it runs to `optimized`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # that an optimised graph is for this machine only goes without saying
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name


def ceilings(threads: int) -> dict[str, float]:
    """What the machine reaches in ONNX Runtime: multiply-adds a second, and bytes a second read and written."""
    from benchmarks.inference import onnx_peers

    rates = {}
    for name, (channels, side) in {"convolution": (128, 32), "small": (16, 128), "large": (64, 256)}.items():
        graph = onnx_peers.Graph((side, side))
        graph.shapes[onnx_peers.INPUT] = (channels, side, side)
        if name == "convolution":
            graph.new_conv(onnx_peers.INPUT, channels, 3)
        else:
            graph.relu(onnx_peers.INPUT)
        rates[name] = _rate(graph, onnx_peers.OUTPUT, threads)
    return rates


def _rate(graph: Any, end: str, threads: int) -> float:
    """Multiply-adds a second of a graph that has some, bytes a second of another; with its memory taken before."""
    model = graph.model(graph.nodes[-1].output[0]).SerializeToString()
    session, argument = open_session(model, threads)
    x = np.ones((1, *graph.shapes[argument]), np.float32)
    y = np.empty_like(x)
    binding = session.io_binding()
    binding.bind_cpu_input(argument, x)
    binding.bind_output(end, "cpu", element_type=np.float32, shape=y.shape, buffer_ptr=y.ctypes.data)
    seconds = [harness.timed(lambda: session.run_with_iobinding(binding))[0] for _ in range(3 * RUNS)]
    return (graph.multiply_adds or 2 * x.nbytes) / min(seconds)


def table(kinds: dict[str, dict[str, float]], batch: int, tops: dict[str, float]) -> list[dict[str, Any]]:
    """The kinds of one network, all of one image, the slowest first; without those below half a percent."""
    total = sum(kind["seconds"] for kind in kinds.values())
    rows = [{"kind": "all", "number": sum(kind["number"] for kind in kinds.values()), "ms": 1e3 * total / batch}]
    if not any(name.startswith("QLinear") for name in kinds):  # the ceilings are those of float32
        speeds = tops["convolution"], tops["small"]
        ideal = sum(max(kind["multiply_adds"] / speeds[0], kind["bytes"] / speeds[1]) for kind in kinds.values())
        rows.append({"kind": "at the machine's speed", "ms": 1e3 * ideal / batch})
    for name, kind in sorted(kinds.items(), key=lambda item: -item[1]["seconds"]):
        seconds, work, moved = (kind[key] for key in ("seconds", "multiply_adds", "bytes"))
        if seconds >= 0.005 * total:
            row = {"kind": name, "number": kind["number"], "ms": 1e3 * seconds / batch, "%": 100 * seconds / total}
            row |= {"G": work / batch / 1e9, "G/s": work / seconds / 1e9} if work else {}
            rows.append({**row, "MB": moved / batch / 1e6, "GB/s": moved / seconds / 1e9})
    return rows


def measure(**case: Any) -> list[dict[str, Any]]:
    """What the machine reaches, or one network at one batch; or the network's files."""
    try:
        tops = case.get("tops") or ceilings(case["threads"])
    except ImportError as error:
        raise harness.NotMeasured(str(error)) from error
    if "runtime" not in case:
        rows = [{"kind": "convolution 3x3 of 128 channels", "G/s": tops["convolution"] / 1e9}]
        return rows + [{"kind": f"ReLU, {name}", "GB/s": tops[name] / 1e9} for name in ("small", "large")]
    folder = folder_of(case)
    if case.get("prepare"):
        prepare(case, folder)
        return []
    if not folder.exists():
        harness.worker(**{**case, "tops": tops, "prepare": True})
    runtime = runtime_of(case["runtime"])
    missing = folder / f"{case['runtime']}.missing"
    if missing.exists():
        raise harness.NotMeasured(missing.read_text())
    images = np.load(folder / IMAGES)
    pixels = as_pixels(np.resize(images, (case["batch"], *images.shape[1:])), runtime.pixels)
    return table(profile(folder / str(runtime.onnx), pixels, case["threads"]), case["batch"], tops)


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What the machine reaches, and every network that is an ONNX graph, at every batch."""
    rows: list[dict[str, Any]] = [{"size": "", "": "the machine", "threads": arguments.threads}]
    batches = speed.BATCHES[:1] if arguments.quick else speed.BATCHES
    for case in speed.cases(arguments):
        if runtime_of(case["runtime"]).onnx:
            rows += [{**case, "batch": batch, "threads": arguments.threads} for batch in batches]
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    speed.options(parser)
    parser.add_argument("--threads", type=harness.at_least_1, default=1, help="with one, no operation waits (default)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=speed.SIZES[:1])
