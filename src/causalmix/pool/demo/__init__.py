"""The demo pool: a small invented world, skills about it in five domains, and documents good and bad.

:mod:`~causalmix.pool.demo.world` holds the facts, :mod:`~causalmix.pool.demo.skills` ask and answer,
:mod:`~causalmix.pool.demo.junk` spoils answers, :mod:`~causalmix.pool.demo.generate` writes the documents.
"""
