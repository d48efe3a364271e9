"""What the package costs: time, memory, and how both grow. README.md says how to run a benchmark."""
