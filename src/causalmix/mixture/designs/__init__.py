"""Designs: how a run's mixture is chosen, one file a family."""
