"""train: the policy learns, by imitation or from scored groups."""
