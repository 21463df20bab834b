"""Speed: what a host can do, what a run reaches of it, and what larger runs would take."""
