"""Runs tables with a known truth: what to expect of an estimator and a policy at your number of runs."""
