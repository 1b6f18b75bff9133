"""Plugins named by where their code is: `path/to/file.py:NAME` and `package.module:NAME`.

A relative file is looked for in the working directory; what a recipe says is brought there first (`relative_to`).
NAME is the plugin's name in rows and reports, but for NAME = PLUGIN, which goes by its file's or module's name, as
built-in plugins do. So a plugin keeps its name, and its runs, where its file is moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_FILE = re.compile(rf"(?P<where>[^:]*\.py):(?P<attribute>{_IDENTIFIER})")
_MODULE = re.compile(rf"(?P<where>{_IDENTIFIER}(?:\.{_IDENTIFIER})*):(?P<attribute>{_IDENTIFIER})")
# In a recipe a dataset's argument may follow: `./mine.py:rows:folder/`.
_FILE_AND_MORE = re.compile(rf"(?P<where>[^:]*\.py):{_IDENTIFIER}(?::.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reference:
    """A plugin outside this repository: its code and the name of the object in it."""

    text: str
    """As it was typed."""
    where: str
    """The file's absolute path, or the module."""
    is_file: bool
    attribute: str

    @property
    def name(self) -> str:
        """What it is called in rows and reports."""
        if self.attribute != "PLUGIN":
            return self.attribute
        return Path(self.where).stem if self.is_file else self.where.rpartition(".")[2]

    @property
    def shown(self) -> str:
        """Its code as a person named it."""
        return self.text.rpartition(":")[0]


def parse(text: str) -> Reference | None:
    """The reference that a text is, None where it is a plain name."""
    if (found := _FILE.fullmatch(text)) is not None:
        return Reference(text, str(Path(found["where"]).expanduser().absolute()), True, found["attribute"])
    if (found := _MODULE.fullmatch(text)) is not None:
        return Reference(text, found["where"], False, found["attribute"])
    return None


def relative_to(values: Any, folder: Path) -> Any:
    """A recipe's values with each relative `file.py:NAME`, be it a value or a key, taken as lying in `folder`."""
    if isinstance(values, dict):
        return {relative_to(key, folder): relative_to(value, folder) for key, value in values.items()}
    if isinstance(values, list):
        return [relative_to(value, folder) for value in values]
    if isinstance(values, str) and (found := _FILE_AND_MORE.fullmatch(values)) is not None:
        where = Path(found["where"]).expanduser()
        return values if where.is_absolute() else f"{folder / where}{values[found.end('where') :]}"
    return values


def code_named_in(values: Any) -> list[str]:
    """The files and modules whose code these values ask for, in the order they come, each once."""
    if isinstance(values, dict):
        found = [text for pair in values.items() for part in pair for text in code_named_in(part)]
    elif isinstance(values, list):
        found = [text for value in values for text in code_named_in(value)]
    elif isinstance(values, str) and (_FILE_AND_MORE.fullmatch(values) or _MODULE.fullmatch(values)):
        found = [values]
    else:
        found = []
    return list(dict.fromkeys(found))
