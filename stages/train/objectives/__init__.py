"""What can be minimised: one file an objective."""
