"""Prompts for a renderer that expands image placeholders itself, as vLLM does.

Given ids whose placeholders are expanded already it expands them again and says nothing.
"""

from __future__ import annotations

from itertools import groupby


def collapsed(token_ids: list[int], image_token_id: int | None, family: str) -> list[int]:
    """The ids with each run of image tokens cut to one. `family` is the config's model_type."""
    cut: list[int] = []
    for token, run in groupby(token_ids):
        cut += [token] if token == image_token_id else list(run)
    if family != "internvl" or image_token_id is None:
        return cut
    # For InternVL vLLM also writes the tokens around the run.
    around = {i + step for i, token in enumerate(cut) if token == image_token_id for step in (-1, 1)}
    return [token for i, token in enumerate(cut) if i not in around]
