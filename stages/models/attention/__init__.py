"""Attention over prompts that are shared by their completions."""
