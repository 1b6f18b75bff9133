"""One training run on several processes: who they are, what each does of a step, how a model is laid out over them."""
