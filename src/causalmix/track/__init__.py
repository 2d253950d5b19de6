"""The W&B mirror of runs, its upload and its dashboards; the record stays the truth."""
