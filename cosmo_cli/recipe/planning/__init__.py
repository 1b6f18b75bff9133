"""What a recipe takes of a machine, step by step: memory of its GPUs, the host's and disk."""
