"""RegMix's regressor: LightGBM on the shares (Liu et al. 2024, arXiv 2407.01492)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analysis.regressors.regressor import check_rows
from causalmix.errors import AnalysisError

Floats = NDArray[np.float64]

ROWS_TOO_FEW = 40  # LightGBM's min_data_in_leaf=20 allows no split: a constant


class BoostedTrees:
    """``E[Y | T]`` by gradient-boosted trees: 1000 trees, learning rate .01, defaults else.

    Parameters
    ----------
    seed : int
        42 in the paper. The same rows and seed give the same bits.
    n_threads : int
        Of the prediction, where rows are independent; 0 takes as many as OpenMP likes. The fit takes one.
    """

    def __init__(self, seed: int = 42, n_threads: int = 0):
        self.seed = seed
        self.n_threads = n_threads
        self.model: Any = None

    def fit(self, T: Floats, y: Floats) -> Self:
        """Fit ``y`` (n,) on ``T`` (n, K).

        Raises
        ------
        AnalysisError
            With 40 rows or fewer.
        """
        from lightgbm import LGBMRegressor

        check_rows(T, y, 1, "lightgbm")
        if len(T) <= ROWS_TOO_FEW:
            raise AnalysisError(
                f"lightgbm on shares: {len(T)} runs; with {ROWS_TOO_FEW} or fewer LightGBM's min_data_in_leaf=20 "
                "allows no split and its answer is a constant. Run more of the sweep, or leave regmix out."
            )
        model = LGBMRegressor(
            n_estimators=1000,
            learning_rate=0.01,
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )
        self.model = model.fit(T, y)
        return self

    def predict(self, T: Floats) -> Floats:
        """Return the outcomes (m,) of ``T`` (m, K)."""
        return np.asarray(self.model.booster_.predict(T, num_threads=self.n_threads))
