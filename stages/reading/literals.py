"""Lists and objects that tables hold as text: JSON, or a Python literal as `str(list)` writes it."""

from __future__ import annotations

import ast
import json
from typing import Any

MAX_JSON, MAX_LITERAL = 50_000_000, 100_000
"""Characters beyond which a text stays one: the parser of Python takes some hundred bytes for each."""


def opened(value: Any) -> Any:
    """What a text that is a list or an object holds; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    for parse, most in ((json.loads, MAX_JSON), (ast.literal_eval, MAX_LITERAL)):
        try:
            if len(value) <= most:
                return parse(value.strip())
        # What `literal_eval` says of text that is no literal, and of brackets some thousand deep.
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return value
