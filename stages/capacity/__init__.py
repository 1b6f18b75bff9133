"""What a model takes of a machine: parameters, training, sampling, files. Arithmetic alone; `cosmo plan` asks it."""
