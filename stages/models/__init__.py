"""Models: what a policy is called, where it lies, how it is loaded, saved and fed. Stages never know its size."""
