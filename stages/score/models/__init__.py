"""Verifiers that ask a model: judges, reward models, the gain from seeing the image."""
