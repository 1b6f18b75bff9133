"""Write the golden files: `python -m tests.golden.make [--same-behaviour]`.

Row schemas (refused where a row changed and its version did not), the defaults of every config (refused where a default
changed and its stage's version did not), and the digests of the built-in plugins' sources (refused where one changed
and its version did not, but for `--same-behaviour`: you say that every row comes out as before).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from schemas.arrow import describe
from schemas.tables import TABLES
from stages.core.plugins import golden
from tests.golden.defaults import changed_defaults, present_defaults

FOLDER = Path(__file__).parent
DEFAULTS = FOLDER / "defaults.json"


def main() -> int:
    """0 when every golden file is in step or has a new version."""
    same = "--same-behaviour" in sys.argv
    complaints = [*rows(), *defaults(), *plugins(same)]
    print("".join(f"{line}\n" for line in complaints), end="", file=sys.stderr)
    return 1 if complaints else 0


def rows() -> list[str]:
    """Write each row's golden schema, but for those that this returns a complaint about."""
    complaints = []
    for name, table in TABLES.items():
        path = FOLDER / f"{name}.json"
        now = {"version": table.version, "row": describe(table.row)}
        saved = read(path) or {"version": 0, "row": None}
        if saved["version"] == table.version and saved["row"] != now["row"]:
            complaints.append(f"{name}: the row changed; raise its version in schemas/tables.py first")
        else:
            path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    return complaints


def defaults() -> list[str]:
    """Write the defaults, unless one changed under the same version of its stage: that is returned."""
    now = present_defaults()
    if not (complaints := changed_defaults(now, read(DEFAULTS))):
        DEFAULTS.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    return complaints


def plugins(same_behaviour: bool) -> list[str]:
    """Write the digests, unless a source changed under the same version and nobody says that rows are as before."""
    now = golden.present()
    complaints = [] if same_behaviour else golden.differences(now, read(golden.FILE))
    if complaints:
        return [*complaints, "raise the version, or make golden SAME=1 where every row comes out as before"]
    golden.FILE.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    return []


def read(path: Path) -> dict[str, object]:
    """A golden file, empty where there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
