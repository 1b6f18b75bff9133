"""Child processes that can be killed: the pool, and what runs in a child."""
