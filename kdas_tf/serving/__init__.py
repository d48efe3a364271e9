"""What leaves the project: a network as servers load it, with its preprocessing, checks and papers."""
