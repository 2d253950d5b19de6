"""Checks that come before advice, each with a code, a title and what to do."""
