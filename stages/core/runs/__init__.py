"""Run folders: what was planned, what is committed, and where each came from."""
