"""Networks written as ONNX graphs (onnx.ai), in the form that ONNX Runtime's CPU kernels run fastest.

Maps are `[batch, channels, height, width]`: ONNX Runtime rearranges these once into blocks of channels, and bias, sum
and ReLU become part of a convolution. It has every operation used here in that arrangement
(onnxruntime/core/optimizer/nchwc_transformer.cc); another operation would cost two rearrangements.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import kdas_tf
from kdas_tf.errors import UserError
from kdas_tf.serving.graphs.folding import Array

OPSET, IR_VERSION = 18, 10
"""Of the files: ONNX Runtime 1.18 (2024) and later read them."""


class Value(NamedTuple):
    """A tensor of the graph."""

    name: str
    shape: tuple[None, int, int, int] | None = None  # of a map: height, width, channels, in TensorFlow's order

    @property
    def size(self) -> tuple[int, int, int]:
        """(height, width, channels) of a map."""
        assert self.shape is not None, f"{self.name} is not a map"
        return self.shape[1:]


class OnnxTarget:
    """Collects the nodes of a graph; see `kdas_tf.serving.graphs.targets.TensorFlowTarget` for the methods.

    Raises `UserError` where the package onnx is missing.
    """

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise UserError("ONNX files need packages that are missing: pip install '.[onnx]'") from error
        self._onnx, self._nodes, self._constants = onnx, list[Any](), list[Any]()

    def images(self, image_size: tuple[int, int]) -> Value:
        """The graph's input: float32 `[batch, height, width, 3]`, as all exports take it."""
        self._image_size = image_size
        return self._map("Transpose", Value("images", (None, *image_size, 3)), perm=[0, 3, 1, 2])

    def model(self, embedding: Value, embedding_size: int) -> Any:
        """The finished ONNX model, whose output has rows of length 1."""
        helper, number = self._onnx.helper, self._onnx.TensorProto.FLOAT
        length = self._node("ReduceL2", embedding, self._constant(np.array([1])), keepdims=1)
        safe = self._node("Max", length, self._constant(np.float32(1e-12)))  # as kdas_tf.evaluation.features does
        self._nodes.append(helper.make_node("Div", [embedding.name, safe], ["embedding"]))
        images = helper.make_tensor_value_info("images", number, ["batch", *self._image_size, 3])
        embeddings = helper.make_tensor_value_info("embedding", number, ["batch", embedding_size])
        graph = helper.make_graph(self._nodes, "embedder", [images], [embeddings], self._constants)
        opset = helper.make_opsetid("", OPSET)
        version = {"producer_name": "kdas_tf", "producer_version": kdas_tf.__version__}
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, **version)
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def convolution(self, x: Value, kernel: Array, bias: Array, stride: int = 1) -> Value:
        return self._convolve(x, kernel, bias, stride=stride, pads=[kernel.shape[0] // 2] * 4)

    def depthwise(self, x: Value, kernel: Array, stride: int, dilation: int) -> Value:
        kernel, pads = kernel.transpose(0, 1, 3, 2), [dilation * (kernel.shape[0] // 2)] * 4
        return self._convolve(x, kernel, stride=stride, pads=pads, dilation=dilation, group=x.size[2])

    def _convolve(
        self,
        x: Value,
        kernel: Array,
        bias: Array | None = None,
        *,
        stride: int,
        pads: list[int],
        dilation: int = 1,
        group: int = 1,
    ) -> Value:
        """Convolution; the kernel is `[height, width, inputs / group, filters]`; pads are top, left, bottom, right."""
        constants = [self._constant(kernel.transpose(3, 2, 0, 1).astype(np.float32))]
        constants += [self._constant(bias.astype(np.float32))] if bias is not None else []
        shape = (*_strided(x.size, stride), kernel.shape[3])
        attributes = {"strides": [stride] * 2, "pads": pads, "dilations": [dilation] * 2, "group": group}
        return self._map("Conv", x, *constants, size=shape, kernel_shape=list(kernel.shape[:2]), **attributes)

    def max_pool(self, x: Value, stride: int) -> Value:
        return self._pool("MaxPool", x, stride)

    def average_pool(self, x: Value, stride: int) -> Value:
        return self._pool("AveragePool", x, stride, count_include_pad=0)

    def _pool(self, kind: str, x: Value, stride: int, **attributes: Any) -> Value:
        size = (*_strided(x.size, stride), x.size[2])
        return self._map(kind, x, size=size, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4, **attributes)

    def relu(self, x: Value) -> Value:
        return Value(self._node("Relu", x), x.shape)

    def add(self, x: Value, y: Value | Array) -> Value:
        return Value(self._node("Add", x, self._operand(y)), x.shape)

    def shift(self, x: Value, offset: Array) -> Value:
        return self._map("Add", x, self._constant(offset[:, None, None]))

    def scale(self, x: Value, scale: Array) -> Value:
        return self._map("Mul", x, self._constant(scale[:, None, None]))

    def concat(self, maps: Sequence[Value]) -> Value:
        size = (*maps[0].size[:2], sum(m.size[2] for m in maps))
        return self._map("Concat", *maps, size=size, axis=1)

    def odd_pixels(self, x: Value) -> Value:
        # Picked by a convolution: slices are not among the operations on blocks of channels.
        height, width, channels = x.size
        kernel = np.zeros((2, 2, 1, channels), np.float32)
        kernel[1, 1] = 1
        return self._convolve(x, kernel, stride=2, pads=[0, 0, height % 2, width % 2], group=channels)

    def row_means(self, x: Value, average: Array) -> Value:
        height, width, _ = x.size
        rows = height // len(average)
        equal = np.array_equal(average, np.kron(np.eye(len(average)), np.full(rows, 1 / rows)).astype(np.float32))
        window = [rows if equal else 1, width]
        pooled = self._node("AveragePool", x, kernel_shape=window, strides=window)
        means = Value(self._node("Squeeze", pooled, self._constant(np.array([3]))))
        if not equal:
            means = self.matmul(means, np.ascontiguousarray(average.T))
        return self.transpose(means, (0, 2, 1))

    def add_rows(self, x: Value, rows: Value, columns: Array | None) -> Value:
        one_column = self._node("Unsqueeze", self.transpose(rows, (0, 2, 1)), self._constant(np.array([3])))
        # A maximum over windows that hold this column wherever they are spreads it: a pool works on blocks of channels,
        # and an addition of equal shapes becomes part of the convolution before it.
        width = x.size[1]
        spread = self._node("MaxPool", one_column, kernel_shape=[1, width], pads=[0, width - 1, 0, width - 1])
        if columns is not None:
            spread = self._node("Mul", spread, self._constant(columns))
        return Value(self._node("Add", x, spread), x.shape)

    def matmul(self, x: Value | Array, y: Value | Array) -> Value:
        return Value(self._node("MatMul", self._operand(x), self._operand(y)))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return Value(self._node("Transpose", x, perm=list(axes)))

    def softmax(self, x: Value) -> Value:
        return Value(self._node("Softmax", x, axis=-1))

    def mean(self, x: Value) -> Value:
        return self._map("GlobalAveragePool", x, size=(1, 1, x.size[2]))

    def vectors(self, x: Value) -> Value:
        return Value(self._node("Flatten", x))

    def _map(
        self, kind: str, x: Value, *more: Any, size: tuple[int, int, int] | None = None, **attributes: Any
    ) -> Value:
        return Value(self._node(kind, x, *more, **attributes), (None, *(size or x.size)))

    def _operand(self, x: Value | Array) -> str:
        return x.name if isinstance(x, Value) else self._constant(x)

    def _constant(self, values: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def _node(self, kind: str, *inputs: Value | str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self._nodes)}"
        names = [x.name if isinstance(x, Value) else x for x in inputs]
        self._nodes.append(self._onnx.helper.make_node(kind, names, [name], name=name, **attributes))
        return name


def _strided(size: tuple[int, int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
