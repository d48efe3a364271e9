"""The renderer of the embedded people."""
