"""Mirrors of a run for people to look at; the record stays the truth."""
