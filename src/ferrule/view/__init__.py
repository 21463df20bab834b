"""Pages and pictures of finished runs: one self-contained HTML report per run, learning curves, claim figures."""
