"""Documents with a BM25 index: written by prepare, searched by an environment while completions are sampled."""
