"""Evaluation through lm-eval: local likelihood tasks, its own tasks, and the means that make AvgDev.

Modules: :mod:`~causalmix.evaluate.evaluator`, :mod:`~causalmix.evaluate.likelihood`,
:mod:`~causalmix.evaluate.answers`, :mod:`~causalmix.evaluate.heldout`, :mod:`~causalmix.evaluate.outcomes`,
:mod:`~causalmix.evaluate.code_tasks`, :mod:`~causalmix.evaluate.sandbox`.
Nothing heavy is imported here.
"""
