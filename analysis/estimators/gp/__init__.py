"""A varying-coefficient Gaussian process, and steps on top of it."""
