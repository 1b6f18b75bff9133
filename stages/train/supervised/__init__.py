"""Examples, pairs and verdicts that supervised objectives learn from."""
