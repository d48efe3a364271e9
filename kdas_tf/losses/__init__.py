"""Losses: distillation at a temperature, batch-hard triplet and the objective of both."""
