"""Where a run folder lies: on this machine, or under a prefix of a bucket."""
