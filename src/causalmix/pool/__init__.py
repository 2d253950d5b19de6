"""The pool: documents, their tokens, their scores, and the candidate sub-pools that runs draw from.

Modules, in the order in which a pool is made: :mod:`~causalmix.pool.documents` and
:mod:`~causalmix.pool.ingest` (or :mod:`~causalmix.pool.demo`), :mod:`~causalmix.pool.tokenizer`,
:mod:`~causalmix.pool.encode`, :mod:`~causalmix.pool.scores`, joined by :mod:`~causalmix.pool.prepare`; then
:mod:`~causalmix.pool.store`, :mod:`~causalmix.pool.candidate` and :mod:`~causalmix.pool.state`. Nothing heavy
is imported here.
"""
