"""`cosmo show --query`: SQL over a run's rows, by DuckDB where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.core.errors import InputError, UnavailableError, UsageError, first_line

if TYPE_CHECKING:
    from cosmo_cli.terminal.output import Output
    from stages.core.runs.folder import RunFolder

SHOWN = 100
"""Rows of a result that a person sees; --json has all."""


def show_query(folder: RunFolder, query: str, output: Output) -> None:
    """The result of a query over the table `rows`: a table for a person, a list of objects with --json.

    UsageError for what DuckDB can't run, with its reason; UnavailableError where there is no DuckDB.
    """
    names, rows = run_query(folder, query)
    if output.as_json:
        output.document([dict(zip(names, row, strict=True)) for row in rows])
        return
    cells = [[_cell(value) for value in row] for row in rows[:SHOWN]]
    widths = [max(len(row[n]) for row in [names, *cells]) for n in range(len(names))]
    output.lines("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [names, *cells])
    if len(rows) > SHOWN:
        output.say(f"{SHOWN} of {len(rows):,} rows: the query can have a limit, --json has all")


def run_query(folder: RunFolder, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query over the run's shards, which reads those columns alone that it names."""
    try:
        import duckdb
    except ImportError:
        raise UnavailableError("--query needs DuckDB, which is not installed", "pip install duckdb") from None
    from stages.core.runs.shards import open_shard

    paths = [str(path) for path in folder.shard_paths()]
    if not paths:
        raise InputError(
            f"{folder.where} has no committed shard", f"finish it with the same cosmo {folder.stage} command"
        )
    for path in folder.shard_paths():
        # Looked at by us first: what can't be read, or stands for too much, is said as everywhere.
        open_shard(path, None).close()
    with duckdb.connect() as connection:
        connection.read_parquet(paths).create_view("rows")
        try:
            # A query is about these rows: no other file, no network, no extension.
            connection.execute("set allowed_paths = $1", [paths])
            connection.execute("set enable_external_access = false")
            result = connection.execute(query)
            return [column[0] for column in result.description or []], result.fetchall()
        except duckdb.Error as error:
            raise UsageError(f"--query: {first_line(error)}", "--query 'select * from rows limit 3'") from None


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    return " ".join(str(value).split())
