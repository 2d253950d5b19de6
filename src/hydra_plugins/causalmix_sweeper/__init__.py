"""Hydra plugin: `launch.py -m` as one resumable sweep."""
