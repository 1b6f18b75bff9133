"""A cluster's Ray as the executor: a driver that hands out shards, workers that do them."""
