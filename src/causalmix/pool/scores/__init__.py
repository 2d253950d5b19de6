"""Scores: what the state is made of, one file a scorer.

A scorer (:class:`~causalmix.pool.scores.scorer.Scorer`) turns raw texts into one or more features.
:mod:`~causalmix.pool.scores.language_model` gives Normalized_Loss and HES out of one forward pass,
:mod:`~causalmix.pool.scores.writing_style` gives Writing_Style; :mod:`~causalmix.pool.scores.reference_lm`
and :mod:`~causalmix.pool.scores.rater` train the small models behind them on the reference slice;
:mod:`~causalmix.pool.scores.normaliser` freezes the scale. Nothing heavy is imported here.
"""

FEATURES = ("hes", "normalized_loss", "writing_style")
SCORES_VERSION = 1  # raise it where the same settings give other scores

IN_DOCUMENTS = "documents"  # pool.scores.given: the documents bring their scores
