"""Studies: how a claim is measured, from arms and seeds to a stored verdict."""
