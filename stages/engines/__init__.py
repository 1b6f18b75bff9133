"""Engines: what samples completions, in process (transformers, vllm), from a server (openai), or of no model (fake)."""
