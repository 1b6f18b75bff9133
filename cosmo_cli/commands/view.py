"""cosmo view.

A page on this machine alone, at an address with a token: cards of all groups with filters, curves of training, lineage.
Follows runs that go on. Needs the extra `view`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosmo_cli.options import QuietOption, RunsOption

PORT = 8421


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, or folders of them, in place of --runs.", show_default=False),
    ] = None,
    runs: RunsOption = Path("runs"),
    port: Annotated[
        int, typer.Option("--port", help="Where it listens; 0: any that is free.", min=0, max=65535)
    ] = PORT,
    show: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Serve until Ctrl-C. The address, token and all, is the one line on stdout."""
    from cosmo_cli.terminal.output import Output, emit_path
    from stages.core.errors import UnavailableError

    try:
        from cosmo_cli.view.server import application, new_token, serve
    except ImportError as error:
        raise UnavailableError(f"cosmo view needs {error.name}", "pip install 'cosmo-rl[view]'") from None
    from cosmo_cli.view.library import Library
    from cosmo_cli.view.pages import Pages

    output = Output("view", quiet=quiet)
    library, token = Library(paths or [runs]), new_token()
    found = library.entries()

    def ready(at: int) -> None:
        address = f"http://127.0.0.1:{at}/{token}/"
        output.say(f"{len(found):,} runs; Ctrl-C ends it")
        emit_path(address)
        if show:
            typer.launch(address)

    try:
        serve(application(Pages(library, f"/{token}"), token), port, ready)
    except OSError as error:
        raise UnavailableError(
            f"port {port} can't be used: {error.strerror}", "--port 0 takes any that is free"
        ) from None


COMMAND = command
