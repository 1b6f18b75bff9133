"""cosmo rollout: G sampled completions a prompt, with token ids and log-probs."""
