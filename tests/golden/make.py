"""Write the golden schemas: `python -m tests.golden.make`. Refuses a change without a new version."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from schemas.arrow import describe
from schemas.tables import TABLES

FOLDER = Path(__file__).parent


def main() -> int:
    """0 when every golden file is in step or has a new version."""
    for name, table in TABLES.items():
        path = FOLDER / f"{name}.json"
        now = {"version": table.version, "row": describe(table.row)}
        saved = json.loads(path.read_text()) if path.exists() else {"version": 0, "row": None}
        if saved["version"] == table.version and saved["row"] != now["row"]:
            print(f"{name}: the row changed; raise its version in schemas/tables.py first", file=sys.stderr)
            return 1
        path.write_text(json.dumps(now, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
