"""The layouts people store data in, as data: by which columns one is known, and which column is what.

A layout says what is peculiar to it. What it leaves open is looked for by name in `COLUMNS`, and values are read by
their shape (`turns.py`, `image_values.py`, `reading/choices.py`), so that a layout's columns may be mixed with any
other's.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of storing samples."""

    name: str
    """What people call it."""
    needs: tuple[str, ...]
    """Paths that must all hold something; `path:shape` where only that shape tells, see `shapes.py`."""
    fields: dict[str, str] = field(default_factory=dict)
    """Our name -> its path, before any that `COLUMNS` would find."""
    refused: tuple[str, str] = ("", "")
    """What such files are and what to type, where `prepare` is not what reads them."""


LAYOUTS = (
    Layout(
        "preference pairs",
        ("chosen", "rejected"),
        refused=(
            "preference pairs (chosen, rejected), which are completions",
            "cosmo import {name} --as scored, for reward, dpo, verifier; to imitate the better: --map response=chosen",
        ),
    ),
    *(
        Layout(
            "KTO",
            needs,
            refused=(
                f"completions with a verdict each ({verdict})",
                f"cosmo import {{name}} --as scored --set grades.liked={verdict} --set reward=liked",
            ),
        )
        for verdict, needs in (
            ("kto_tag", ("kto_tag:yes or no",)),
            ("label", ("prompt", "completion", "label:yes or no")),
        )
    ),
    Layout(
        "ms-swift",
        ("messages:box marks", "objects"),
        refused=(
            "<ref-object> and <bbox> for names and coordinates (objects), which each model writes in its own way",
            "write them into the text",
        ),
    ),
    Layout(
        "verl",
        ("reward_model.ground_truth",),
        {"messages": "prompt", "answer": "reward_model.ground_truth", "split": "extra_info.split"},
    ),
    Layout("ShareGPT", ("conversations:turns",), {"messages": "conversations"}),
    Layout("ShareGPT", ("conversation:turns",), {"messages": "conversation"}),
    Layout("ms-swift", ("messages:turns", "solution"), {"messages": "messages", "answer": "solution"}),
    Layout("OpenAI messages", ("messages:image parts",), {"messages": "messages"}),
    Layout("chat messages", ("messages:turns",), {"messages": "messages"}),
    Layout("TRL", ("prompt:turns",), {"messages": "prompt", "response": "completion"}),
    Layout("TRL", ("prompt", "completion"), {"response": "completion"}),
    Layout("ms-swift", ("query", "response"), {"prompt": "query", "response": "response"}),
    Layout(
        "Alpaca",
        ("instruction", "output"),
        {"prompt": "instruction", "input": "input", "response": "output"},
    ),
    Layout("VLMEvalKit", ("index", "question", "A", "B"), {"prompt": "question"}),
    Layout("MMMU", ("question", "options", "image_1"), {"prompt": "question", "choices": "options"}),
    Layout("EasyR1", ("problem", "answer"), {"prompt": "problem"}),
    Layout(
        "IFEval",
        ("prompt", "instruction_id_list", "kwargs"),
        {
            "prompt": "prompt",
            "instructions": "instruction_id_list",
            "instruction_arguments": "kwargs",
            "label": "'instruction'",
        },
    ),
    Layout("WebDataset", ("__key__",)),
)
"""In order: the first whose needs are there is the one."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "turns"),
    "prompt": (
        *("prompt", "question", "query", "problem", "instruction", "user_prompt", "user_query", "goal"),
        *("behavior", "forbidden_prompt", "request", "input", "text"),
    ),
    "system": ("system", "system_prompt"),
    "hint": ("hint",),
    "history": ("history",),
    "answer": (
        *("answer", "ground_truth", "gold", "gold_answer", "reference_answer", "correct_answer", "final_answer"),
        *("expected_answer", "answer_key", "answerkey", "solution", "answers", "choice_answer", "correct_choice"),
    ),
    "response": ("response", "completion", "output", "caption", "text", "txt"),
    "images": (
        *("images", "image", "image_path", "image_file", "image_bytes", "img", "img_path", "image_paths", "picture"),
        *("decoded_image", "image_url", "image_urls", "photo"),
    ),
    "choices": ("choices", "options", "candidates"),
    "label": ("label",),
    "task": ("task",),
    "split": ("split",),
    "category": ("category",),
    **{name: (name,) for name in ("source", "risk", "family", "parent_id", "scene", "harmful", "answer_kind")},
    **{name: (name,) for name in ("facts", "key_facts", "visual_keys", "text_keys")},
    **{name: (name,) for name in ("hazards", "unsafe_markers", "flags", "instructions")},
}
"""Our name -> column names that say it, in small letters and with `_` for blanks and hyphens; the first there wins."""

COLUMN_WORDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "prompt": (
        frozenset({"question", "prompt", "query", "problem", "instruction", "q"}),
        frozenset({"text", "user", "input", "statement", "full", "content", "body", "stem", "string"}),
    ),
    "answer": (
        frozenset(
            {"answer", "answers", "truth", "gt", "gold", "solution", "target", "correct", "expected", "reference"}
        ),
        frozenset({"right", "final", "ground", "text", "option", "choice", "output", "value", "key", "letter", "idx"}),
    ),
    "choices": (
        frozenset({"choices", "options", "opts", "candidates"}),
        frozenset({"answer", "list", "text", "all", "multiple"}),
    ),
}
"""Where no column has a name that says it: a name made of these words does, if one of them is of the first kind."""

PROMPTS_FROM_CAPTIONS = "Describe the image."
"""The prompt of records that have an image, a caption and no question: the caption is then the response."""
SETTINGS = ("input", "history", "system", "hint")
"""Names beside those of a plain sample: what becomes part of the messages."""

INSIDE = ("text", "value", "content")
"""Where an object has what it is an object of."""
MAY_BE_INSIDE = ("prompt", "answer", "response")
"""Our names whose column may be such an object."""

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(
        ("tool", "function", "function_call", "observation", "tool_call", "tool_response", "ipython"), "tool"
    ),
}
"""Their name of a turn's role -> ours; `tool` is refused by name."""

ANSWER_WORDS = ("answer", "solution", "truth", "gold", "label", "target", "reference", "correct", "output", "response")
PAIR_WORDS = ("chosen", "rejected", "preferred", "preference", "winner")
PASSAGE_WORDS = ("context", "passage", "paragraph", "article")
IMAGE_WORDS = ("image", "images", "img", "picture", "photo", "figure")
"""Words in the name of a column that is not used, by which it is pointed out."""
LABELS = ("general", "knowledge", "value", "safety", "jailbreak", "instruction", "math")
"""What a column `label` holds where it means ours; any other is a class, and may be the answer."""
SPLITS = ("train", "test", "val", "dev")
"""How the parts of a dataset begin; all but the first are test rows here."""
