"""CausalMix: what each kind of data is worth, given the state of the pool."""
