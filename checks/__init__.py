"""Checks of the project's own that no linter knows: `python -m checks.house`."""
