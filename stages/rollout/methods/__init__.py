"""How a group's completions come about: sampled in one go, or turn by turn with an environment."""
