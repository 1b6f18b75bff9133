"""Models of a few million parameters, built from real transformers classes."""
