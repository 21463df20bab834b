"""Updates on trees packed into one sequence, with log-probs from a fused output layer."""
