"""One tokenizer recipe for the tiny backbones: byte-level BPE, so that any text comes back exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# The Qwen2 splitting rule: words with their leading space, digits one by one, punctuation, line breaks. Unlike
# there a digit keeps its leading space, so that a count is one token.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# Ordinary words to the decoder: they stay visible in completions, and verifiers look for them.
THINK_TOKENS = ("<think>", "</think>")
DESCRIBE_TOKENS = ("<description>", "</description>", "<answer>", "</answer>")


def train(vocab_size: int, special: list[str], described: bool = False, more: Iterable[str] = ()) -> Any:
    """A `tokenizers.Tokenizer` trained on the world's text and on `more`; `special` get the last ids, in order.

    `described` adds the marks and the words of the layout `describe` and of the perception study. There is no
    normaliser: NFC would change words that a dataset spells otherwise.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from stages.world.corpus import corpus, described_corpus

    marks = (*THINK_TOKENS, *DESCRIBE_TOKENS) if described else THINK_TOKENS
    # The marks are tokens of their own, so no merges are spent on them.
    lines = [_without(line, marks) for line in (*(described_corpus() if described else corpus()), *more)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special) - len(marks),
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in marks])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    return tokenizer


def _without(line: str, marks: tuple[str, ...]) -> str:
    for mark in marks:
        line = line.replace(mark, "")
    return line


def wrap(tokenizer: Any, *, eos: str, pad: str, template: str, bos: str | None = None, **named: str) -> Any:
    """The trained tokenizer as a transformers one; `named` are extra token attributes (`image_token=...`)."""
    from transformers import PreTrainedTokenizerFast

    extra: dict[str, Any] = {"extra_special_tokens": named} if named else {}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=pad,
        bos_token=bos,
        clean_up_tokenization_spaces=False,
        model_max_length=1 << 20,
        **extra,
    )
    wrapped.chat_template = template
    return wrapped
