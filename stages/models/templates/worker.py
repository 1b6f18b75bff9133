"""The jobs of a child process that renders chat templates: see `stages.core.children.serve`, which loads this file.

Imports nothing of ours, and of transformers the renderer alone.
"""

from __future__ import annotations

import importlib
from typing import Any

MEMORY_BYTES = 1 << 30
"""What rendering may take beside the libraries: `{{ 'x' * 10**9 }}` fails here instead of filling the machine."""
_MOST_SAID = 500
"""Characters of an error's message that are passed on."""


def start() -> None:
    """Load the renderer; ImportError where transformers has no such."""
    importlib.import_module("transformers.utils.chat_template_utils")


def answer(job: dict[str, Any]) -> dict[str, str]:
    """`text`, or why there is none: `failed` where the template raised, `spent` where it took more than it may."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[job["turns"]], chat_template=job["template"], add_generation_prompt=True, **job["tokens"]
        )
    except MemoryError:
        return {"spent": f"more than {MEMORY_BYTES >> 30} GiB of memory"}
    # A template is a stranger's program: it may fail in any way that a program can.
    except Exception as error:
        lines = str(error)[:_MOST_SAID].splitlines()
        return {"failed": next((line for line in lines if line.strip()), type(error).__name__)}
    text: str = rendered[0][0]
    if len(text) > job["most"]:
        return {"spent": f"{len(text):,} characters, and {job['most']:,} are the most for so short a conversation"}
    return {"text": text}
