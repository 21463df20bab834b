"""Stand-ins that are learnt in seconds: their tasks, one episode, and what a policy is worth there."""
