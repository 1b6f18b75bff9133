"""`python -m cosmo_cli`: the command where no `cosmo` is on the PATH, as for torchrun."""

from cosmo_cli.app import entry

entry()
