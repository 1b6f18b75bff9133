"""Templates, and how they become pages."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


class Renderer:
    """Pages out of templates, with addresses that begin with the base."""

    def __init__(self, base: str) -> None:
        self._base = base

    def page(self, template: str, **context: Any) -> str:
        """The page that a template makes of this."""
        return self._templates.get_template(f"{template}.html.jinja").render(base=self._base, **context)

    @cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2

        # Everything is escaped: jinja's own default escapes nothing, and words come from models.
        made = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters["number"] = lambda value: f"{value:,}"
        made.filters["plural"] = lambda unit: f"{unit}s" if unit and not unit.endswith("s") else unit
        made.filters["moment"] = lambda value: time.strftime("%m-%d %H:%M", time.localtime(value)) if value else "–"
        made.filters["pair"] = lambda value: (value, value)
        made.filters["signed"] = lambda value: f"{value:+.2f}".replace("-", "−")
        return made
