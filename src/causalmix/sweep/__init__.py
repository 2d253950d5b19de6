"""Many runs: expansion, reconciliation with what is done, execution, status."""
