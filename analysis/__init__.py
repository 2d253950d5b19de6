"""From a table of runs to a mixture: roles, coordinates, estimators, policies, checks and a report."""
