"""Text that is safe to put on a terminal.

Rows, error messages of servers and file names come from strangers, and a terminal obeys what is in them: an escape
sequence sets the clipboard or the window's title, an override of the writing direction shows a line as another one.
"""

from __future__ import annotations

import re

# Control characters but tab and line feed; what turns the writing direction; marks that nobody sees; halves of pairs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with every character that a terminal obeys, or nobody sees, spelled out: `\\x1b`, `\\u202e`."""
    return text if text.isprintable() else _UNSEEN.sub(_spelled, text)


def in_json(document: str) -> str:
    """A JSON document with those characters as JSON's own escapes: it says the same to a program."""
    # JSON itself escapes what is below a blank; characters beyond 16 bits are two escapes there.
    return _UNSEEN.sub(lambda m: "".join(f"\\u{unit:04x}" for unit in _units(m.group())), document)


def _spelled(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _units(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]
