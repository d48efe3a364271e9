"""Networks as plain graphs of constants, for TensorFlow, ONNX and LiteRT."""
