"""Memory: what earlier episodes put before a model, with where it comes from and whether it helped."""
