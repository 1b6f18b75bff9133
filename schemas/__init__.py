"""Typed rows: everything that crosses from one stage to another, and nothing else."""
