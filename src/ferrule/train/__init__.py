"""Training: short functions around one sampling step and one update step."""
