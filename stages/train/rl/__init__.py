"""Parts of the reinforcement-learning step: batches, log-probs, metrics."""
