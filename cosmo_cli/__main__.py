"""`python -m cosmo_cli`."""

from cosmo_cli.app import entry

entry()
