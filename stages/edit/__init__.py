"""cosmo edit: completions that somebody changed, to go on from, to learn from, and to compare."""
