"""The search space: candidate operations, the part-aware module and the mixed operation."""
