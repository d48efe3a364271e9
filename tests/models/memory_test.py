from kdas_tf.models.memory import search_bytes, search_step_bytes

PAPER = {"image_size": (384, 128), "channels": 32, "cells": 8, "reductions": (2, 4, 6)}


def test_one_normal_cell_is_the_sum_counted_by_hand():
    # 8x4 pixels are 2x1 behind the stem; 3 images of 2 channels make maps of 3 * 2 * 1 * 2 = 12 numbers.
    # Nodes 0, 1 (the inputs) send 4 edges each, nodes 2, 3, 4 send 3, 2, 1: 14 edges from 5 nodes.
    # Kept: 4 maps per edge for sep_conv, 1 for dil_conv, 3 in the stack, so 8; 2 pools and 3 inputs per node.
    kept = 12 * (8 * 14 + 2 * 5 + 3 * 5)
    # In passing: 6 copies of the stack of both inputs, which has 2 maps for each of 4 edges and 2 pools of either.
    passing = 12 * 6 * 2 * (2 * 4 + 2)
    assert search_step_bytes(3, image_size=(8, 4), channels=2, cells=1, reductions=()) == 4 * (kept + passing)


def test_a_reduction_cell_doubles_the_channels_and_halves_what_its_inputs_edges_make():
    # 16x8 pixels are 4x2 behind the stem; 1 image of 2 * 2 channels: maps of 32 numbers before and 8 after the stride.
    # The edges of the two inputs read the larger maps (3 kept) and make the smaller; those of nodes 2, 3, 4 stay small.
    kept = 8 * (8 * 14 + 2 * 5) + 3 * (2 * 32 + 3 * 8)
    # The stack has skip_connect's maps too.
    passing = 8 * 6 * 2 * (3 * 4 + 2)
    assert search_step_bytes(1, image_size=(16, 8), channels=2, cells=1, reductions=(0,)) == 4 * (kept + passing)


def test_rematerialized_are_kept_what_cells_give_and_all_of_one_cell():
    # Cells as in the two tests above, on 16x8 pixels: a normal one on maps of 1 * 4 * 2 * 2 = 16 numbers, then a
    # reduction to maps of 1 * 2 * 1 * 4 = 8 from inputs of 32. Each gives 4 nodes.
    outputs = 4 * 16 + 4 * 8
    first = 16 * (8 * 14 + 2 * 5 + 3 * 5) + 16 * 6 * 2 * (2 * 4 + 2)
    second = 8 * (8 * 14 + 2 * 5) + 3 * (2 * 32 + 3 * 8) + 8 * 6 * 2 * (3 * 4 + 2)
    size = {"image_size": (16, 8), "channels": 2, "cells": 2, "reductions": (1,)}
    assert search_step_bytes(1, rematerialize=True, **size) == 4 * (outputs + max(first, second))


def test_partial_channels_leave_a_kth_of_it_and_the_maps_that_are_pooled_beside():
    # As above with K = 2: half of the operations' maps; the other half of 2 larger and 2 smaller maps beside them.
    kept = (8 * (8 * 14 + 2 * 5) + 3 * (2 * 32 + 3 * 8)) // 2 + 2 * (32 + 8) // 2
    passing = 8 * 6 * 2 * (3 * 4 + 2) // 2
    size = {"image_size": (16, 8), "channels": 2, "cells": 1, "reductions": (0,)}
    assert search_step_bytes(1, partial_channels=2, **size) == 4 * (kept + passing)


def test_in_mixed_precision_kept_maps_have_two_bytes_a_number_and_normalisations_still_four():
    # As in the first test; and a supernet that rematerialises keeps its outputs in two bytes too.
    kept, passing, outputs = 12 * (8 * 14 + 2 * 5 + 3 * 5), 12 * 6 * 2 * (2 * 4 + 2), 4 * 12
    size = {"image_size": (8, 4), "channels": 2, "cells": 1, "reductions": (), "bytes_per_number": 2}
    assert search_step_bytes(3, **size) == 2 * kept + 4 * passing
    assert search_step_bytes(3, rematerialize=True, **size) == 2 * (outputs + kept) + 4 * passing
    float32 = {**size, "bytes_per_number": 4}
    # Parameters are float32 in both.
    assert search_bytes(3, 1000, **float32) - search_bytes(3, 1000, **size) == 2 * kept


def test_behind_a_stem_that_keeps_the_size_the_cells_work_at_sixteen_times_as_many_positions():
    size = {"channels": 4, "cells": 2, "reductions": (1,)}
    quarter = search_step_bytes(1, image_size=(64, 32), **size)
    assert search_step_bytes(1, image_size=(64, 32), stem="cifar", **size) == 16 * quarter


def test_sizes_that_the_stem_and_reductions_do_not_divide_are_rounded_up():
    odd = search_step_bytes(1, image_size=(33, 17), channels=4, cells=2, reductions=(1,))
    assert odd == search_step_bytes(1, image_size=(36, 20), channels=4, cells=2, reductions=(1,))


def test_memory_grows_linearly_with_batch_and_channels_and_image():
    base, factor = search_step_bytes(4, **PAPER), 7
    assert search_step_bytes(4 * factor, **PAPER) == factor * base
    assert search_step_bytes(4, **{**PAPER, "channels": 32 * factor}) == factor * base
    assert search_step_bytes(4, **{**PAPER, "image_size": (384 * factor, 128)}) == factor * base
