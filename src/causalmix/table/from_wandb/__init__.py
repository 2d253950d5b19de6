"""Runs tables out of W&B: its public API, its files on disk, the CSV that its page saves."""
