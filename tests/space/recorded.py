"""Puts weights recorded from the PyTorch originals into our layers, and reads ours back under their names."""

import re

import numpy as np


def weight_slots(layer, prefix=""):
    """Maps the recorded names of one operation's weights to (variable, index into it)."""
    kind = type(layer).__name__
    if kind == "DepthwiseSeparableConv":
        slots = {}
        for i in range(layer.repeats):
            slots[f"op.{4 * i + 1}.kernel"] = (layer.depthwise_kernels[i], (0,))
            slots[f"op.{4 * i + 2}.kernel"] = (layer.pointwise_kernels[i], (0,))
        norms = [*layer.inner_norms, layer.norm]
        for i, norm in enumerate(norms):
            slots |= _norm_slots(f"op.{4 * i + 3}", norm, (0, 0, 0, 0))
    elif kind == "PartAware":
        slots = _part_aware_slots(layer)
    elif kind == "SkipConnect" and layer.stride == 2:
        slots = {
            "conv_1.kernel": (layer.even_kernel, (0,)),
            "conv_2.kernel": (layer.odd_kernel, (0,)),
            **_norm_slots("bn", layer.norm, (0, 0, 0, 0)),
        }
    else:
        slots = {}
    return {prefix + name: slot for name, slot in slots.items()}


def _norm_slots(name, norm, index):
    if norm is None or not norm.affine:
        return {}
    return {f"{name}.gamma": (norm.gamma, index), f"{name}.beta": (norm.beta, index)}


def _part_aware_slots(layer):
    slots = {}
    hidden = layer.channels // 3
    for i in range(layer.parts):
        slots[f"local.{i}.1.kernel"] = (layer.local_kernel, (0, i))
        slots[f"local.{i}.1.bias"] = (layer.local_bias, (0, 0, i))
        slots |= _norm_slots(f"local.{i}.2", layer.local_norm, (0, 0, 0, 0, slice(i * hidden, (i + 1) * hidden)))
    for name, columns in (("W_K", slice(None, hidden)), ("W_Q", slice(hidden, None))):
        slots[f"{name}.kernel"] = (layer.key_query_kernel, (0, slice(None), columns))
        slots[f"{name}.bias"] = (layer.key_query_bias, (0, 0, 0, columns))
    half = layer.channels // 2
    slots["last.conv.kernel"] = (layer.kernel, (0,))
    slots["last.convs.0.kernel"] = (layer.kernel, (0, slice(None), slice(None, half)))
    slots["last.convs.1.kernel"] = (layer.kernel, (0, slice(None), slice(half, None)))
    return slots | _norm_slots("last.bn", layer.norm, (0, 0, 0, 0))


def assign(slots, recorded):
    """Copies every recorded weight into its slot; one without a slot fails."""
    for name, value in recorded.items():
        if name.endswith("_grad"):
            continue
        variable, index = slots[name]
        array = np.array(variable)
        array[index] = value.reshape(array[index].shape)
        variable.assign(array)


def group(arrays):
    """Splits the arrays of a reference file by case: {case: {name: array}}, weights under names without `w/`."""
    cases = {}
    for key, value in arrays.items():
        case, name = key.split("/", 1)
        cases.setdefault(case, {})[name] = value
    return cases


def weights_of(case):
    return {re.sub("^w/", "", name): value for name, value in case.items() if name.startswith("w/")}
