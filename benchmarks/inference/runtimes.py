"""A network as every runtime has it: written to files by one process, opened by another.

`RUNTIMES` names them. What `open` gives takes images as `Runtime.pixels` says and returns embeddings `[batch, D]`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import THREADS

NETWORK, IMAGES, EXPECTED, PEER_FILE = "network", "images.npy", "expected.npy", "peer.onnx"
Embed = Callable[[Any], Any]


class Made(NamedTuple):
    """A network in memory, and what it was made with."""

    network: Any
    images: Any  # uint8 `[number, height, width, 3]`
    folder: Path


class Runtime(NamedTuple):
    """How a network gets into a runtime.

    Attributes:
        label: for the table.
        write: writes what `open` needs into the network's folder; None where the saved network is enough.
        open: makes the function that is timed.
        pixels: "uint8" or "float32", `[batch, height, width, 3]` in 0..255; "centred" is `[batch, 3, height, width]`,
            float32, centred and scaled already.
        onnx: name of the file, if it is one of ONNX.
    """

    label: str
    write: Callable[[Made], None] | None
    open: Callable[[Path], Embed]
    pixels: str = "float32"
    onnx: str | None = None


def as_pixels(images: Any, kind: str) -> Any:
    """Images uint8 `[batch, height, width, 3]` as a runtime takes them."""
    if kind == "centred":
        from kdas_tf.models.stem import IMAGENET_MEAN, IMAGENET_STD

        centred = (images - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
        return np.ascontiguousarray(centred.transpose(0, 3, 1, 2), np.float32)
    return images.astype(kind)


def _open_keras(folder: Path) -> Embed:
    from kdas_tf.models import saved

    network = saved.load(folder / NETWORK)
    return lambda x: network.predict_on_batch(x).embedding


def _write_saved_model(made: Made) -> None:
    """The Keras network as it is, behind a signature."""
    import tensorflow as tf

    spec = tf.TensorSpec([None, *made.images.shape[1:]], tf.float32, name="images")

    @tf.function(input_signature=[spec])
    def embed(images):
        return {"embedding": made.network(images, training=False).embedding}

    module = tf.Module()
    module.network = made.network
    tf.saved_model.save(module, str(made.folder / "saved_model"), signatures=embed)


def _write_folded(made: Made) -> None:
    from kdas_tf.serving.embedder import Embedder

    Embedder(made.network, image_size=made.images.shape[1:3]).save(made.folder / "folded")


def _open_saved_model(name: str) -> Callable[[Path], Embed]:
    def opened(folder: Path) -> Embed:
        import tensorflow as tf

        model = tf.saved_model.load(str(folder / name))
        embed = model.signatures["serving_default"]
        # The model is an argument so that it lives as long as the function.
        return lambda x, model=model: embed(images=tf.constant(x))["embedding"].numpy()

    return opened


def _exported(label: str, runtime: str) -> Runtime:
    """A copy that gin/export.gin writes, one of `kdas_tf.serving.runtimes.FILES`."""

    def write(made: Made) -> None:
        from kdas_tf.serving import runtimes

        examples = made.images.astype(np.float32)
        runtimes.write(made.network, made.folder, runtime, image_size=made.images.shape[1:3], examples=examples)

    def opened(folder: Path) -> Embed:
        from kdas_tf.serving import runtimes

        return runtimes.open_file(folder / runtimes.FOLDER / runtimes.FILES[runtime], THREADS)

    return Runtime(
        label,
        write,
        opened,
        onnx={"onnx": "assets.extra/float32.onnx", "onnx_int8": "assets.extra/int8.onnx"}.get(runtime),
    )


def _open_peer(folder: Path) -> Embed:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(folder / PEER_FILE, options, providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    return lambda x: session.run(None, {argument.name: x})[0]


def _write_peer(made: Made) -> None:
    from benchmarks.inference import onnx_peers

    size = made.images.shape[1:3]
    graph = onnx_peers.osnet(size) if made.network is None else onnx_peers.resnet(made.network, size)
    onnx_peers.write(graph, made.folder / PEER_FILE)


RUNTIMES = {
    "keras": Runtime("Keras predict", None, _open_keras),
    "saved_model": Runtime("SavedModel", _write_saved_model, _open_saved_model("saved_model")),
    "folded": Runtime("SavedModel, folded", _write_folded, _open_saved_model("folded"), "uint8"),
    "onnx": _exported("ONNX Runtime", "onnx"),
    "onnx_int8": _exported("ONNX Runtime int8", "onnx_int8"),
    "litert_float32": _exported("LiteRT float32", "litert_float32"),
    "litert_int8": _exported("LiteRT int8", "litert_int8"),
}
PEER = {"peer": Runtime("ONNX Runtime", _write_peer, _open_peer, "centred", PEER_FILE)}


def runtimes_of(*, peer: bool) -> dict[str, Runtime]:
    """Those of ours, or those of the peers."""
    return PEER if peer else RUNTIMES


def runtime_of(name: str) -> Runtime:
    """A runtime by its name, of ours or of the peers."""
    return (RUNTIMES | PEER)[name]
