"""Targets trained under each policy: means, differences paired over seeds, intervals."""
