"""A chat template that refuses a system turn, as Gemma's do: the row is rejected, or its text goes to the user turn.

The row that comes back says what the model was asked, so that whatever renders it later (RL its images, a judge, DPO)
sees the same conversation; its id stays that of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from schemas.prompts import PromptRow
from schemas.values import Image, Message, Part
from stages.core.errors import BadSample

AS_IT_IS, IN_USER_TURN = "as_it_is", "in_user_turn"
"""What `system_turn` may be."""
SYSTEM_TURN_HELP = (
    "A system turn that the chat template refuses: as_it_is rejects the row; in_user_turn asks again, its text first in"
    " the first user turn"
)

Row = TypeVar("Row", bound=PromptRow)
Out = TypeVar("Out")


def encoded_row(
    encode: Callable[[list[Message], list[Image]], Out], row: Row, system_turn: str = AS_IT_IS
) -> tuple[Row, Out]:
    """The row as it was asked, and what `encode` gave for it; BadSample where the model can't take it either way."""
    try:
        return row, encode(row.messages, row.images)
    except BadSample as refusal:
        again = in_user_turn(row.messages) if system_turn == IN_USER_TURN else row.messages
        if refusal.reason != "chat_template" or again == row.messages:
            raise
    return replace(row, messages=again), encode(again, row.images)


def in_user_turn(messages: list[Message]) -> list[Message]:
    """The conversation with the text of its system turns, and an empty line, at the head of its first user turn.

    As it is where it has no system turn, or no user turn.
    """
    texts = [part.text or "" for message in messages if message.role == "system" for part in message.content]
    rest = [message for message in messages if message.role != "system"]
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if not texts or first is None:
        return messages
    head = Part("text", "\n".join(texts) + "\n\n")
    return [*rest[:first], Message("user", [head, *rest[first].content]), *rest[first + 1 :]]
