"""The weights of a student as PyTorch's modules hold them, in the order of the modules in torch_student.py."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kdas_tf.models.networks import Student
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, PointwiseConv, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware

Array = np.ndarray


def arrays(student: Student) -> list[Array]:
    """Weight and bias of every module, then its running statistics."""
    found: list[Array] = []
    for layer in student.stem.blocks:
        if type(layer).__name__ == "Conv2D":
            found.append(_array(layer.kernel).transpose(3, 2, 0, 1))
        elif type(layer).__name__ == "BatchNormalization":
            found += _norm(layer)
    for cell in student.cells:
        for operation in (cell.older_input, cell.newer_input, *cell.operations):
            found += _operation(operation)
    neck = student.head.neck
    scale, mean, variance = (_array(v) for v in (neck.gamma, neck.moving_mean, neck.moving_variance))
    return [*found, scale, np.zeros_like(scale), mean, variance, _array(student.head.classifier.kernel).T]


def _array(variable: Any) -> Array:
    return np.asarray(variable.value)


def _norm(norm: Any) -> list[Array]:
    return [_array(v).ravel() for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)]


def _pointwise(kernel: Any) -> Array:
    return np.asarray(kernel)[0].T[:, :, None, None]


def _operation(operation: Operation) -> Iterator[Array] | list[Array]:
    if isinstance(operation, Pooling) or (isinstance(operation, SkipConnect) and operation.stride == 1):
        return []
    if isinstance(operation, SkipConnect):
        kernels = (operation.even_kernel, operation.odd_kernel)
        return [*(_pointwise(_array(kernel)) for kernel in kernels), *_norm(operation.norm)]
    if isinstance(operation, PointwiseConv):
        return [_pointwise(_array(operation.kernel)), *_norm(operation.norm)]
    if isinstance(operation, DepthwiseSeparableConv):
        return _separable(operation)
    if isinstance(operation, PartAware):
        return _part_aware(operation)
    raise TypeError(f"no such operation in torch_student.py: {operation}")


def _separable(operation: DepthwiseSeparableConv) -> Iterator[Array]:
    norms = [*operation.inner_norms, operation.norm]
    for spatial, channelwise, norm in zip(operation.depthwise_kernels, operation.pointwise_kernels, norms, strict=True):
        yield _array(spatial)[0].transpose(2, 3, 0, 1)
        yield _pointwise(_array(channelwise))
        yield from _norm(norm)


def _part_aware(operation: PartAware) -> Iterator[Array]:
    parts, hidden = operation.parts, operation.channels // 3
    kernels, biases = _array(operation.local_kernel)[0], _array(operation.local_bias)[0, 0]
    norms = [values.reshape(parts, hidden) for values in _norm(operation.local_norm)]
    for part in range(parts):
        yield kernels[part].T
        yield biases[part]
        yield from (values[part] for values in norms)
    kernel, bias = _array(operation.key_query_kernel)[0], _array(operation.key_query_bias).ravel()
    for half in (slice(hidden), slice(hidden, None)):
        yield kernel[:, half].T
        yield bias[half]
    last, middle = _array(operation.kernel), operation.channels // 2
    halves = [last] if operation.stride == 1 else [last[..., :middle], last[..., middle:]]
    yield from map(_pointwise, halves)
    yield from _norm(operation.norm)
