"""Partial channels (PC-DARTS; Xu et al., 2020, section 3.2): of every node 1/K of the channels is mixed.

The others pass by the mixed operations, and a shuffle spreads both over the channels of the next node, so that its
mixture gets others of them. It saves time and memory, and operations without weights gain less.

A node of PC-DARTS is the sum over its edges of shuffle(concat(mixture of the first part, the other parts)). As the
shuffle is linear, sums are taken here before it: once a node instead of once an edge. PC-DARTS' weights of the edges
are left out; they would be architecture parameters of their own.
"""

from keras import ops

from kdas_tf.errors import UserError


def check_partial_channels(parts: int, channels: int) -> None:
    """Refuses a K > 1 that does not divide the channels, or leaves fewer than the three that `part_aware` needs."""
    divides = parts > 0 and channels % parts == 0
    if parts != 1 and not (divides and channels // parts >= 3):
        raise UserError(
            "Expected partial_channels to divide the channels of the supernet into parts of at least 3, "
            f"got partial_channels={parts} for {channels} channels.",
            code="fit",
        )


def split_channels(x, parts: int):
    """Splits `[..., channels]` into the first channels / parts, to be mixed, and the others, which pass by."""
    first = x.shape[-1] // parts
    return x[..., :first], x[..., first:]


def pass_by(x, stride: int):
    """What reaches the next nodes without an operation: x, or its maxima of 2x2 pixels, an odd size rounded up."""
    return x if stride == 1 else ops.max_pool(x, 2, 2, "same")


def join_channels(mixed, beside):
    """Concatenates and shuffles: channel j of part p goes to place j * parts + p (PC-DARTS, `channel_shuffle`).

    Args:
        mixed: part 0, `[batch, height, width, channels / parts]`.
        beside: the other parts, `[batch, height, width, channels - channels / parts]`.
    """
    height, width, size = mixed.shape[1:]
    joined = ops.concatenate([mixed, beside], -1)
    channels = joined.shape[-1]
    parts = ops.reshape(joined, (-1, height, width, channels // size, size))
    return ops.reshape(ops.swapaxes(parts, -1, -2), (-1, height, width, channels))
