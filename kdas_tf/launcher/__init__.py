"""What runs stages: bindings of gin, the workdir, the guard of its results."""
