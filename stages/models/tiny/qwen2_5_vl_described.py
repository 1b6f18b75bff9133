"""Tiny Qwen2.5-VL whose tokenizer has the marks of the layout `describe`, for the perception recipes."""

from __future__ import annotations

from stages.models.tiny.qwen2_5_vl import TinyQwen25VL


class TinyDescribed(TinyQwen25VL):
    """The same model with another vocabulary: a described completion takes half the tokens."""

    version = 1
    described = True


PLUGIN = TinyDescribed()
