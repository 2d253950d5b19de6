"""Training: token stores, packed batches, models, the flat loop and its checkpoints.

Modules: :mod:`~causalmix.train.tokens`, :mod:`~causalmix.train.batches`, :mod:`~causalmix.train.forward`,
:mod:`~causalmix.train.model`, :mod:`~causalmix.train.base`, :mod:`~causalmix.train.loop`. This room knows
arrays, not pools. Nothing heavy is imported here.
"""
