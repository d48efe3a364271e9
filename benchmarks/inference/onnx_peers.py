"""The networks that inference is compared with, as ONNX graphs: ResNet-50 and OSNet x1.0.

Both are what an export from PyTorch gives: images `[batch, 3, height, width]`, every batch normalisation folded into
the convolution before it, and nothing that is for training only. ResNet-50 has the weights of this project's network,
OSNet random ones of the usual size, so that activations are neither all zero nor denormal.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save_model

OPSET, IR_VERSION = 17, 8  # which every ONNX Runtime since 2022 reads
INPUT, OUTPUT = "images", "embedding"


class Graph:
    """An ONNX graph that is written from its input to its output.

    Attributes:
        parameters: as counted in training: those of a folded normalisation are two numbers a channel.
        multiply_adds: of one image, in convolutions and matrix products, as fvcore counts.
    """

    def __init__(self, image_size: tuple[int, int], seed: int = 0):
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: (3, *image_size)}  # without the batch
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.parameters = self.multiply_adds = 0
        self._generator = np.random.default_rng(seed)

    def add(self, operation: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        """Adds a node; returns the name of its output, which has that shape without the batch."""
        name = f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def constant(self, values: Any) -> str:
        """Adds an array of float32 (or of whole numbers, as it is)."""
        array = np.asarray(values)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def random_kernel(self, filters: int, inputs: int, size: int) -> Any:
        """He initialisation (He et al., 2015), `[filters, inputs, size, size]`."""
        scale = math.sqrt(2 / (inputs * size * size))
        return self._generator.standard_normal((filters, inputs, size, size), np.float32) * np.float32(scale)

    def conv(self, x: str, kernel: Any, bias: Any = None, *, stride: int = 1, relu: bool = False, norm: bool = True):
        """A convolution with symmetric padding; kernels `[filters, inputs / groups, size, size]`.

        `norm` says whether the bias stands for a normalisation, which counts as two parameters a channel.
        """
        filters, inputs, size, _ = kernel.shape
        channels, height, width = self.shapes[x]
        shape = (filters, -(-height // stride), -(-width // stride))
        arrays = [self.constant(kernel)] + ([self.constant(bias)] if bias is not None else [])
        pads, strides = [size // 2] * 4, [stride] * 2
        options = {"kernel_shape": [size] * 2, "pads": pads, "strides": strides, "group": channels // inputs}
        x = self.add("Conv", [x, *arrays], shape, **options)
        self.parameters += kernel.size + (0 if bias is None else (1 + norm) * filters)
        self.multiply_adds += kernel.size * shape[1] * shape[2]
        return self.relu(x) if relu else x

    def new_conv(self, x: str, filters: int, size: int = 1, *, groups: int = 1, bias: bool = True, **options: Any):
        """A convolution with random weights."""
        kernel = self.random_kernel(filters, self.shapes[x][0] // groups, size)
        return self.conv(x, kernel, np.zeros(filters) if bias else None, **options)

    def relu(self, x: str) -> str:
        """ReLU."""
        return self.add("Relu", [x], self.shapes[x])

    def sum(self, *terms: str) -> str:
        """The sum of maps of one shape."""
        total = terms[0]
        for term in terms[1:]:
            total = self.add("Add", [total, term], self.shapes[total])
        return total

    def pool(self, x: str, kind: str, size: int, stride: int, pad: int = 0) -> str:
        """MaxPool or AveragePool."""
        channels, *sides = self.shapes[x]
        shape = (channels, *((side + 2 * pad - size) // stride + 1 for side in sides))
        return self.add(kind, [x], shape, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def global_pool(self, x: str) -> str:
        """The mean over all pixels, `[channels, 1, 1]`."""
        return self.add("GlobalAveragePool", [x], (self.shapes[x][0], 1, 1))

    def dense(self, x: str, weights: Any, bias: Any, *, parameters: int) -> str:
        """A matrix product `[inputs, outputs]` and an offset; `x` is `[inputs]`."""
        self.parameters += parameters
        self.multiply_adds += weights.size
        return self.add("Gemm", [x, self.constant(weights), self.constant(bias)], (weights.shape[1],))

    def model(self, output: str) -> Any:
        """The graph as an ONNX model whose only output is `output`.

        Raises:
            onnx.checker.ValidationError: the graph breaks ONNX's rules.
        """
        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT]))
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *self.shapes[inner]])
            for name, inner in ((INPUT, INPUT), (OUTPUT, output))
        ]
        graph = helper.make_graph(self.nodes, "network", ends[:1], ends[1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        checker.check_model(model, full_check=True)
        return model


def osnet(image_size: tuple[int, int]) -> Graph:
    """OSNet x1.0 (Zhou et al., ICCV 2019, Table 1) up to its 512 features; the output is the graph's last node."""
    graph = Graph(image_size)
    x = graph.new_conv(INPUT, 64, 7, stride=2, relu=True)
    x = graph.pool(x, "MaxPool", 3, 2, 1)
    for stage, filters in enumerate((256, 384, 512)):
        x = _omni_scale(graph, _omni_scale(graph, x, filters), filters)
        if stage < 2:
            x = graph.pool(graph.new_conv(x, filters, relu=True), "AveragePool", 2, 2)
    x = graph.global_pool(graph.new_conv(x, 512, relu=True))
    x = graph.add("Flatten", [x], (512,))
    weights = graph.random_kernel(512, 512, 1)[:, :, 0, 0]
    graph.relu(graph.dense(x, weights, np.zeros(512), parameters=512 * 512 + 3 * 512))  # bias, scale and offset
    return graph


def _omni_scale(graph: Graph, x: str, filters: int) -> str:
    """A residual block of four streams, of 1, 2, 3 and 4 Lite 3x3 convolutions, under one aggregation gate (Fig. 4)."""
    middle = filters // 4
    reduced = graph.new_conv(x, middle, relu=True)
    streams = []
    for length in (1, 2, 3, 4):
        stream = reduced
        for _ in range(length):  # Lite 3x3 (Fig. 3b): 1x1 without anything behind it, then depthwise 3x3, BN, ReLU
            stream = graph.new_conv(stream, middle, bias=False)
            stream = graph.new_conv(stream, middle, 3, groups=middle, relu=True)
        streams.append(stream)
    together = graph.sum(*_gated(graph, streams, middle))
    expanded = graph.new_conv(together, filters)
    shortcut = x if graph.shapes[x][0] == filters else graph.new_conv(x, filters)
    return graph.relu(graph.sum(expanded, shortcut))


def _gated(graph: Graph, streams: list[str], channels: int) -> list[str]:
    """Every stream times sigmoid(1x1 - ReLU - 1x1 of its mean) (Eq. 3); the four share the gate's weights."""
    hidden = channels // 16
    kernels = [graph.random_kernel(hidden, channels, 1), graph.random_kernel(channels, hidden, 1)]
    gated, before = [], graph.parameters
    for stream in streams:
        graph.parameters = before  # the same weights again
        gate = graph.conv(graph.global_pool(stream), kernels[0], np.zeros(hidden), relu=True, norm=False)
        gate = graph.conv(gate, kernels[1], np.zeros(channels), norm=False)
        gate = graph.add("Sigmoid", [gate], graph.shapes[gate])
        gated.append(graph.add("Mul", [stream, gate], graph.shapes[stream]))
    return gated


def resnet(network: Any, image_size: tuple[int, int]) -> Graph:
    """A ResNet of `kdas_tf.models.resnet` up to its embedding, on pixels that are centred already.

    Args:
        network: a `kdas_tf.models.resnet.ResNet`.
        image_size: (height, width) in pixels.
    """
    from kdas_tf.serving.graphs.folding import scale_and_offset

    graph = Graph(image_size)
    x = _layers(graph, network.stem, INPUT)
    for block in network.blocks:
        branch, shortcut = _layers(graph, block.convolutions, x), _layers(graph, block.shortcut, x)
        x = graph.relu(graph.sum(branch, shortcut))
    x = graph.global_pool(x)
    scale, offset = (values.reshape(-1, 1, 1) for values in scale_and_offset(network.head.neck))
    graph.parameters += scale.size  # the offset is not trained
    x = graph.add("Mul", [x, graph.constant(scale)], graph.shapes[x])
    x = graph.add("Add", [x, graph.constant(offset)], graph.shapes[x])
    graph.add("Flatten", [x], (scale.size,))
    return graph


def _layers(graph: Graph, layers: Any, x: str) -> str:
    """Keras layers that follow one another; paddings go into the layer behind them, normalisations before them."""
    import keras

    from kdas_tf.serving.graphs.folding import fold

    for layer, following in zip(layers, [*layers, None][1:], strict=False):
        if isinstance(layer, keras.layers.Conv2D):
            norm = following if isinstance(following, keras.layers.BatchNormalization) else None
            (kernel,), bias = fold(layer, norm)
            x = graph.conv(x, kernel.transpose(3, 2, 0, 1), bias, stride=layer.strides[0])
        elif isinstance(layer, keras.layers.ReLU):
            x = graph.relu(x)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            x = graph.pool(x, "MaxPool", 3, 2, 1)
    return x


def write(graph: Graph, path: Path) -> None:
    """Writes a graph whose output is its last node."""
    save_model(graph.model(graph.nodes[-1].output[0]), str(path))
