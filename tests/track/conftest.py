"""Fixtures of these tests."""

from tests.wandb_client import server

__all__ = ["server"]
