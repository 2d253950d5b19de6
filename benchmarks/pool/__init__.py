"""Benchmarks of the pool, one module a question; ``python benchmarks/pool.py NAME`` runs one."""
