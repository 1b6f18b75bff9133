"""A reward for models of noise: some completions get it, and others of the same prompt do not."""


def even(completion, token_ids):
    """Whether the sum of its ids is even."""
    return float(sum(token_ids) % 2 == 0)
