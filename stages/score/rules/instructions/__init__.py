"""Checks of instructions that a rule can verify."""
