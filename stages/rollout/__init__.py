"""cosmo rollout: G sampled replies a prompt, with token ids and log-probs."""
