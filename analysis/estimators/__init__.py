"""Estimators of theta(x), the marginal effect of log shares; one file a family."""
