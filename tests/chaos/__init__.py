"""Kills, at random and in great number."""
