"""What answers a completion's actions between its turns: one file an environment."""
