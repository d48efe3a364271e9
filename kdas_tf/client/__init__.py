"""The client of a served network; it needs neither TensorFlow nor the rest of the package."""
