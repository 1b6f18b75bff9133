"""What `cosmo prepare` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.core.config import option


@dataclass(frozen=True)
class AugmentOptions:
    """What any source's table may say of augmentation, beside its `limit`. Rows made so come on top of that."""

    augment: list[str] = option([], "Families to send rows through; each row made keeps its parent's split and scene")
    augment_heldout: list[str] = option([], "Families to send test rows through, never to be trained on in this mix")
    augment_share: float = option(1.0, "Share of the rows for each family; twins go together", low=0, high=1)
    augment_labels: list[str] = option(
        [], "Labels of the rows to augment; none named: safety rows, and all that say `harmful`"
    )


@dataclass(frozen=True)
class PrepareConfig:
    """Which datasets, how they are mixed, and what is left out.

    `sources` and `decontaminate` do not enter the fingerprint as they are typed: the plan's key holds each
    source's options and the digest of its content instead, so that a moved file is still the same file.
    """

    sources: list[Any] = option(
        [],
        "Datasets: FILE, FOLDER, hub id, NAME, NAME:PATH, or a table with `name`, `limit`, `augment` and its options",
        affects=False,
    )
    map: list[str] = option(
        [],
        "FIELD=PATH: where a file's sample has it: answer=reward_model.ground_truth, label=\"'safety'\", choices=none",
        affects=False,
        flag="--map",
    )
    image_folder: str = option(
        "", "Folder that image paths are relative to; the file's own if empty", affects=False, flag="--image-folder"
    )
    allow_outside: bool = option(
        False, "Image paths may lead out of that folder", affects=False, flag="--allow-outside"
    )
    fetch_images: bool = option(False, "Download images that are web addresses", affects=False, flag="--fetch-images")
    bench_folder: str = option(
        "", "Folder with a benchmark's files, for `bench:NAME`: cosmo list benchmark", affects=False, flag="--from"
    )
    heldout_families: list[str] = option(
        [],
        "Augmentation families that are never trained on: made of test rows only, an error in any training row",
    )
    seed: int = option(0, "Seed of drawing, sampling and row order", flag="--seed", low=0)
    split: str = option("", "Only this split", flag="--split", choices=("", "train", "test"))
    images: str = option(
        "",
        "Only rows with images, or only rows without any: what a text-only model takes",
        choices=("", "with", "without"),
    )
    limit: int = option(0, "At most this many rows in all; 0 takes every row", flag="--limit", low=0)
    weights: dict[str, float] = option(
        {}, "Share of each label; labels not named are left out; without a limit, the largest such mix"
    )
    near_duplicates: float = option(
        0.9,
        "Drop training rows whose words (3-gram Jaccard) are this close to another row's; 0 is off",
        low=0.0,
        high=1.0,
    )
    decontaminate: list[Any] = option(
        [],
        "Sources whose test rows no training row may repeat; written as sources are",
        affects=False,
        flag="--decontaminate",
    )
    # Of rows with instructions, in the plan's key with their code.
    checks: list[str] = option(
        [], "Instruction checks by where their code is, FILE.py:NAME or MODULE:NAME; as in [score]", affects=False
    )
    drop_flags: list[str] = option([], "Leave out rows with one of these flags, `no_training` for one")
    max_image_bytes: int = option(20 << 20, "Largest image file, checked before it is decoded", low=1, high=256 << 20)
    # Pillow refuses more than this by itself.
    max_image_pixels: int = option(
        40_000_000, "Most pixels, checked in the header before decoding", low=1, high=178_956_970
    )
    min_image_side: int = option(8, "Shortest side of an image in pixels", low=1)
    shard_rows: int = option(500, "Rows a shard; all of a shard's images are in memory once", low=1)
