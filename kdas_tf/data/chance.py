"""Random numbers for many seeds at once, the same that `tf.random.stateless_uniform` gives for each.

The random numbers of an image depend on its own seed alone, and drawing them with TensorFlow, image by image, takes
longer than what is done with them.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox4x32-10, its multipliers and key schedule.
_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
# With this key TensorFlow makes key and counter out of a seed (stateless_random_ops.cc).
_SEED_KEY = (np.uint64(0x3EC8F720), np.uint64(0x02461E29))

_WORD, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_Words = Sequence[npt.NDArray[np.uint64]]


def uniform(seeds: npt.ArrayLike, count: int) -> npt.NDArray[np.float32]:
    """Numbers in [0, 1).

    Args:
        seeds: integers `[n, 2]`.
        count: numbers for each seed. Fewer are the first ones of more.

    Returns:
        Float32 `[n, count]`; row i is `tf.random.stateless_uniform([count], seeds[i])` on a CPU.
    """
    numbers = np.asarray(seeds, np.int64).view(np.uint64)
    low, high = numbers & _WORD, numbers >> _BITS
    mixed = _philox((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), _SEED_KEY)
    first, second, *upper = (word[:, np.newaxis] for word in mixed)
    blocks = np.arange(-(-count // 4), dtype=np.uint64)[np.newaxis]
    words = np.stack(_philox((blocks, np.zeros_like(blocks), *upper), (first, second)), axis=-1)
    # 23 bits become the digits of a number in [1, 2).
    digits = words.reshape(len(numbers), 4 * blocks.size)[:, :count].astype(np.uint32) & np.uint32(0x7FFFFF)
    return (digits | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def _philox(counter: _Words, key: Sequence[npt.NDArray[np.uint64] | np.uint64]) -> _Words:
    """Four words of 32 random bits, each in 64, for every counter (four words) and key (two)."""
    one, two, three, four = counter
    left, right = key
    for _ in range(_ROUNDS):
        a, b = one * _MULTIPLIERS[0], three * _MULTIPLIERS[1]
        one, two, three, four = (b >> _BITS) ^ two ^ left, b & _WORD, (a >> _BITS) ^ four ^ right, a & _WORD
        left, right = (left + _KEY_STEPS[0]) & _WORD, (right + _KEY_STEPS[1]) & _WORD
    return np.broadcast_arrays(one, two, three, four)
