"""Whether this code gives a model's own numbers: what `cosmo check` shows, and RL asks before its first step."""
