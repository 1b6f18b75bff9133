"""Engine `transformers`: sampling in this process, on a CPU or a GPU."""
