"""Other ways to compute what the supernet spends its time on, to be timed beside kdas_tf's own by gpu_operations.py."""

from keras import ops


def depthwise_by_shifts(x, kernel, *, stride: int = 1, dilation: int = 1):
    """As `kdas_tf.space.edges.depthwise`: a sum of shifted copies, all edges at once, without phases or copies."""
    kernel = ops.cast(ops.convert_to_tensor(kernel), "float32")
    size, dtype = kernel.shape[1], x.dtype
    pad = dilation * (size // 2)
    padded = ops.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = (-(-n // stride) for n in x.shape[2:4])
    total = 0.0
    for i in range(size):
        for j in range(size):
            part = padded[:, :, _span(i * dilation, rows, stride), _span(j * dilation, columns, stride)]
            total = total + ops.cast(part, "float32") * kernel[:, None, None, i : i + 1, j, :, 0]
    return ops.cast(total, dtype)


def depthwise_dilated(x, kernel, *, stride: int = 1, dilation: int = 1):
    """As `kdas_tf.space.edges.depthwise`: one convolution an edge with the backend's own dilation, without phases."""
    pad = dilation * (kernel.shape[1] // 2)
    padded = ops.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)))
    kernels = ops.unstack(ops.convert_to_tensor(kernel), kernel.shape[0], axis=0)
    inputs = [padded[0]] * len(kernels) if x.shape[0] == 1 else ops.unstack(padded, len(kernels), axis=0)
    return ops.stack([_conv(i, k, stride, dilation) for i, k in zip(inputs, kernels, strict=True)])


def _conv(x, kernel, stride: int, dilation: int):
    from jax import lax

    kernel = ops.reshape(kernel, (*kernel.shape[:2], 1, kernel.shape[2]))
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _span(start: int, number: int, stride: int) -> slice:
    return slice(start, start + (number - 1) * stride + 1, stride)


def max_pool_by_index(x, stride: int):
    """As `kdas_tf.space.operations._max_pool`: keeps which of nine pixels was the largest, and looks it up again."""
    height, width = x.shape[1:3]
    rows, columns = -(-height // stride), -(-width // stride)

    @ops.custom_gradient
    def pool(x):
        lowest = ops.cast(-3e4 if x.dtype == "float16" else -3e38, x.dtype)
        padded = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=lowest)
        best = padded[:, _span(0, rows, stride), _span(0, columns, stride)]
        index = ops.zeros(best.shape, "int8")
        for k in range(1, 9):
            part = padded[:, _span(k // 3, rows, stride), _span(k % 3, columns, stride)]
            larger = part > best
            best, index = ops.where(larger, part, best), ops.where(larger, ops.cast(k, "int8"), index)

        def gradient(*args, upstream=None):
            upstream = (args if upstream is None else upstream)[0]
            total = 0.0
            for k in range(9):
                part = ops.where(index == k, upstream, ops.zeros_like(upstream))
                part = _with_gaps(part) if stride == 2 else part
                i, j = k // 3, k % 3
                whole = ops.pad(part, ((0, 0), (i, 3 - i), (j, 3 - j), (0, 0)))
                total = total + ops.cast(whole[:, 1 : 1 + height, 1 : 1 + width], "float32")
            return ops.cast(total, upstream.dtype)

        return best, gradient

    return pool(x)


def _with_gaps(x):
    """Puts zeros between all pixels, `[batch, 2 * height, 2 * width, channels]`."""
    batch, height, width, channels = x.shape
    x = ops.reshape(x, (batch, height, 1, width, 1, channels))
    x = ops.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0), (0, 1), (0, 0)))
    return ops.reshape(x, (batch, 2 * height, 2 * width, channels))


VARIANTS = {
    "none": {},
    "shifts": {"depthwise": depthwise_by_shifts},
    "dilated": {"depthwise": depthwise_dilated},
    "index": {"_max_pool": max_pool_by_index},
    "shifts+index": {"depthwise": depthwise_by_shifts, "_max_pool": max_pool_by_index},
}
"""Functions of kdas_tf.space.operations to exchange, by name."""
