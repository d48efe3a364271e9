"""What the time of ONNX Runtime goes into, by kind of operation, and how near each kind is to what the machine can do.

    python benchmarks/operations.py [--sizes 384x128] [--batches 1 16] [--threads 1] [--genotype FILE]
        [--only TEXT ...] [--quick]

Prints a table for each network and batch, and the same as JSON on the last line.
"""

import argparse
import collections
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import inference
import numpy as np
import onnx_peers
import processes
from inference_runtimes import IMAGES, as_pixels, runtime_of

RUNS = 10  # the fastest of them counts, operation by operation
CEILINGS = {"convolution": "convolution 3x3 of 128 channels", "small": "ReLU of 1 MB", "large": "ReLU of 16 MB"}


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
    return {name: dict(kind) for name, kind in kinds.items()}


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
    graphs = {}
    for name, (channels, side) in {"convolution": (128, 32), "small": (16, 128), "large": (64, 256)}.items():
        graph = graphs[name] = onnx_peers.Graph((side, side))
        graph.shapes[onnx_peers.INPUT] = (channels, side, side)
        if name == "convolution":
            graph.new_conv(onnx_peers.INPUT, channels, 3)
        else:
            graph.relu(onnx_peers.INPUT)
    return {name: _rate(graph, threads) for name, graph in graphs.items()}


def _rate(graph: onnx_peers.Graph, threads: int) -> float:
    """Multiply-adds a second of a graph that has some, bytes a second of another; with its memory taken before."""
    model = graph.model(graph.nodes[-1].output[0]).SerializeToString()
    session, argument = open_session(model, threads)
    x = np.ones((1, *graph.shapes[argument]), np.float32)
    y = np.empty_like(x)
    binding = session.io_binding()
    binding.bind_cpu_input(argument, x)
    binding.bind_output(onnx_peers.OUTPUT, "cpu", element_type=np.float32, shape=y.shape, buffer_ptr=y.ctypes.data)
    seconds = []
    for _ in range(3 * RUNS):
        since = time.perf_counter()
        session.run_with_iobinding(binding)
        seconds.append(time.perf_counter() - since)
    return (graph.multiply_adds or 2 * x.nbytes) / min(seconds)


def work(arguments: argparse.Namespace) -> None:
    """What a process of its own does: the ceilings, the files of a network, or its profile."""
    if arguments.worker == "ceilings":
        print(json.dumps(ceilings(arguments.threads)))
        return
    row = inference.Row(*json.loads(arguments.worker))
    folder = arguments.folder / row.folder
    if not folder.exists():
        print(json.dumps(inference.prepare_rows([row], folder, arguments)))
        return
    runtime = runtime_of(row.runtime)
    images = np.load(folder / IMAGES)
    batch = arguments.batches[0]
    pixels = as_pixels(np.resize(images, (batch, *images.shape[1:])), runtime.pixels)
    print(json.dumps(profile(folder / str(runtime.onnx), pixels, arguments.threads)))


def print_table(result: dict[str, Any], tops: dict[str, float]) -> None:
    """Prints the kinds of one network, for people, all of one image; the slowest first."""
    kinds, batch = result["kinds"], result["batch"]
    total = sum(kind["seconds"] for kind in kinds.values())
    print(f"{result['label']}, {result['size']}, batch {batch}: {1000 * total / batch:.1f} ms an image")
    row = "{:<22} {:>6} {:>7} {:>6} {:>8} {:>10} {:>8} {:>8}"
    print(row.format("", "number", "ms", "%", "G mul-a", "G mul-a/s", "MB", "GB/s"))
    for name, kind in sorted(kinds.items(), key=lambda item: -item[1]["seconds"]):
        seconds, work, moved = (kind[key] for key in ("seconds", "multiply_adds", "bytes"))
        if seconds < 0.005 * total:
            continue
        product = [f"{work / batch / 1e9:.3f}", f"{work / seconds / 1e9:.1f}"] if work else ["", ""]
        share = [f"{1000 * seconds / batch:.2f}", f"{100 * seconds / total:.0f}"]
        print(
            row.format(
                name,
                int(kind["number"]),
                *share,
                *product,
                f"{moved / batch / 1e6:.1f}",
                f"{moved / seconds / 1e9:.1f}",
            )
        )
    if not any(name.startswith("QLinear") for name in kinds):  # the ceilings are those of float32
        speeds = tops["convolution"], tops["small"]
        ideal = sum(max(kind["multiply_adds"] / speeds[0], kind["bytes"] / speeds[1]) for kind in kinds.values())
        print(f"{1000 * ideal / batch:.1f} ms if every operation ran at the machine's speed")
    print()


def measure(rows: list[inference.Row], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Prepares and profiles networks, each in processes of their own."""
    results = []
    common = ["--genotype", arguments.genotype, *["--quick"] * arguments.quick, "--threads", arguments.threads]
    for row in rows:
        processes.progress(f"profiling {row.label} at {row.size} ...")
        with tempfile.TemporaryDirectory() as folder:  # of one runtime: the folder of a network is not made twice
            command = ["--worker", json.dumps(row), *common, "--folder", folder, "--batches"]
            written = processes.measure([*command, 1], f"Preparing {row.label}")[row.runtime]
            if isinstance(written, str):
                raise SystemExit(written)
            for batch in arguments.batches:
                kinds = processes.measure([*command, batch], row.label)
                results.append({"label": row.label, "size": row.size, "batch": batch, "kinds": kinds})
    return results


def main() -> None:
    """Measures every network and prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    inference.add_choices(parser)
    parser.add_argument("--threads", type=int, default=1, help="with one, no operation waits for another thread")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    sizes = inference.sizes_of(parser, arguments, default=inference.SIZES[:1])
    rows = [row for row in inference.choose(sizes, arguments.only) if runtime_of(row.runtime).onnx]
    if not rows:
        parser.error("no row of ONNX Runtime has such a label")
    tops = processes.measure(["--worker", "ceilings", "--threads", arguments.threads], "Measuring the machine")
    results = measure(rows, arguments)
    for name, label in CEILINGS.items():
        unit = "G multiply-adds/s" if name == "convolution" else "GB/s"
        print(f"{label}: {tops[name] / 1e9:.1f} {unit}")
    print()
    for result in results:
        print_table(result, tops)
    processes.print_json("operations", results, ceilings=tops)


if __name__ == "__main__":
    main()
