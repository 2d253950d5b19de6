"""W&B dashboards: what they show (a spec of plain values), how it is chosen, how W&B is told."""
