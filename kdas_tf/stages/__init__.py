"""Stages: one keyword-only `run` each, in the order in which data flows."""
