"""Mixtures in the formats of other trainers, and as training sets: one module a format."""
