"""Runs a SavedModel through TensorFlow's C API, the loader that TensorFlow Serving uses; imports no TensorFlow.

    python c_api.py SAVED_MODEL INPUT_TENSOR OUTPUT_TENSOR IMAGES.npy... OUTPUT.npz

Writes the output for each array of images, by its position, and `error_POSITION` with the message where it was refused.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path

import numpy as np

FLOAT, UINT8 = 1, 4  # TF_DataType


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def load_library():
    (folder,) = importlib.util.find_spec("tensorflow").submodule_search_locations
    ctypes.CDLL(str(Path(folder) / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
    tf = ctypes.CDLL(str(Path(folder) / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
    pointers = "NewStatus NewGraph NewSessionOptions NewBuffer LoadSessionFromSavedModel GraphOperationByName"
    for name in [*pointers.split(), "AllocateTensor", "TensorData"]:
        getattr(tf, f"TF_{name}").restype = ctypes.c_void_p
    tf.TF_Message.restype = ctypes.c_char_p
    tf.TF_Dim.restype = ctypes.c_int64
    return tf


class Session:
    def __init__(self, folder):
        self.tf = load_library()
        self.status, self.graph = ctypes.c_void_p(self.tf.TF_NewStatus()), ctypes.c_void_p(self.tf.TF_NewGraph())
        options, buffer = ctypes.c_void_p(self.tf.TF_NewSessionOptions()), ctypes.c_void_p(self.tf.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        load, path = self.tf.TF_LoadSessionFromSavedModel, str(folder).encode()
        self.session = ctypes.c_void_p(load(options, None, path, tags, 1, self.graph, buffer, self.status))
        self.check()

    def check(self):
        if self.tf.TF_GetCode(self.status) != 0:
            raise RuntimeError(self.tf.TF_Message(self.status).decode())

    def output(self, tensor):
        name, _, index = tensor.partition(":")
        return Output(self.tf.TF_GraphOperationByName(self.graph, name.encode()), int(index))

    def run(self, source, target, images):
        dims = (ctypes.c_int64 * images.ndim)(*images.shape)
        fed = ctypes.c_void_p(self.tf.TF_AllocateTensor(UINT8, dims, images.ndim, ctypes.c_size_t(images.nbytes)))
        ctypes.memmove(ctypes.c_void_p(self.tf.TF_TensorData(fed)), images.tobytes(), images.nbytes)
        inputs, outputs = (Output * 1)(self.output(source)), (Output * 1)(self.output(target))
        values, results = (ctypes.c_void_p * 1)(fed), (ctypes.c_void_p * 1)()
        self.tf.TF_SessionRun(self.session, None, inputs, values, 1, outputs, results, 1, None, 0, None, self.status)
        self.tf.TF_DeleteTensor(fed)
        self.check()
        result = ctypes.c_void_p(results[0])
        assert self.tf.TF_TensorType(result) == FLOAT
        shape = [self.tf.TF_Dim(result, i) for i in range(self.tf.TF_NumDims(result))]
        values = ctypes.string_at(self.tf.TF_TensorData(result), 4 * int(np.prod(shape)))
        return np.frombuffer(values, np.float32).reshape(shape)


def main(folder, source, target, *files):
    session, results = Session(folder), {}
    for i, file in enumerate(files[:-1]):
        try:
            results[str(i)] = session.run(source, target, np.load(file))
        except RuntimeError as error:
            results[f"error_{i}"] = np.array(str(error))
    assert "tensorflow" not in sys.modules
    np.savez(files[-1], **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
