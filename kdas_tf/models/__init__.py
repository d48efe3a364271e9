"""Networks: stem, cell, supernet, derived student, teacher and their common head."""
