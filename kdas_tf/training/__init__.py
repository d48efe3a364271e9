"""Training: the two train steps, callbacks, checkpoints and the pictures that they log."""
