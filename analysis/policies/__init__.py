"""Policies and baselines: how an estimate becomes a mixture; one file a family."""
