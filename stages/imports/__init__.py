"""cosmo import: completions that other tools made, as rollout groups or, with their verdicts, as scored groups."""
