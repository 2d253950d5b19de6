"""Regressors of one outcome on the shares of a mixture; they know no state and nothing of causes."""
