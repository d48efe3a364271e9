"""Evaluation: features in order, and their ranking (CMC, mAP, mINP)."""
