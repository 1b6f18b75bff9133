"""What `cosmo import` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from stages.core.config import option
from stages.reading.references import KINDS

LAYOUTS = ("auto", "rows", "lm_eval", "inspect", "vlmeval", "pairs", "numbered")


@dataclass(frozen=True)
class ImportConfig:
    """Which files hold the completions, how they are read, and what is written."""

    # By content in the plan's key: where a file lies is no part of what it holds.
    files: list[str] = option([], "Files of completions, or folders of them", affects=False)
    write: str = option(
        "rollout",
        "What to write: groups to be scored, or scored groups with the file's verdicts as grades",
        flag="--as",
        choices=("rollout", "scored"),
    )
    prompts: list[str] = option(
        [],
        "Prepared run whose prompts these are: joined by id, else by text; answer, images and label come from there",
        flag="--prompts",
        affects=False,
    )
    layout: str = option("auto", "Who wrote the files; auto looks at them", flag="--layout", choices=LAYOUTS)
    map: list[str] = option(
        [], "FIELD=PATH where a column is called otherwise: completion=output.text, \"label='safety'\"", flag="--map"
    )
    model: str = option(
        "", "Name of the policy where rows name none; else the file's or its folder's name", flag="--model"
    )
    judge_name: str = option("people", "What the grades of the file's verdicts are called", flag="--judge-name")
    grades: dict[str, str] = option({}, "Further grades of scored groups: name = the column or path of its verdict")
    verdicts: dict[str, str] = option({}, "Verdicts as the file has them -> as they are to be called")
    values: dict[str, float] = option({}, "What a verdict that is no number is worth, by what it is to be called")
    reward: str = option("", "Scored groups: the grade that is the reward; of preference pairs, the preference")
    tokenizer: str = option(
        "",
        "Policy whose processor gives prompts and completions their token ids, which RL needs",
        flag="--tokenizer",
        affects=False,
    )
    trust_remote_code: bool = option(False, "Run code that comes with the tokenizer's folder")
    image_folder: str = option(
        "", "Folder that image paths are relative to; the file's own if empty", affects=False, flag="--image-folder"
    )
    allow_outside: bool = option(
        False, "Image paths may lead out of that folder", affects=False, flag="--allow-outside"
    )
    fetch_images: bool = option(False, "Download images that are web addresses", affects=False, flag="--fetch-images")
    label: str = option("general", "Label of rows without one", flag="--label")
    task: str = option("", "Task of rows without one; their label if empty")
    split: str = option(
        "",
        "Split of rows without one; left out, test for the logs of evaluations and train for all else",
        choices=("", "train", "test"),
    )
    answer_kind: str = option("", "How to compare answers; guessed if empty", choices=("", *KINDS))
    flags: list[str] = option([], "Flags added to every row")
    # Of rows with instructions, in the plan's key with their code.
    checks: list[str] = option(
        [], "Instruction checks by where their code is, FILE.py:NAME or MODULE:NAME; as in [prepare]", affects=False
    )
    shard_groups: int = option(256, "Groups an output shard", low=1)
    max_image_bytes: int = option(20 << 20, "Largest image file, checked before it is decoded", low=1, high=256 << 20)
    max_image_pixels: int = option(
        40_000_000, "Most pixels, checked in the header before decoding", low=1, high=178_956_970
    )
    min_image_side: int = option(8, "Shortest side of an image in pixels", low=1)
