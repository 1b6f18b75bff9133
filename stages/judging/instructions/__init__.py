"""Checks of instructions that a rule can verify: families of them, and what finds one by its id."""
