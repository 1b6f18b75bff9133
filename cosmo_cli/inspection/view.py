"""cosmo view.

A page on this machine alone, at an address with a token: cards of all groups with filters, curves of training, lineage.
Follows runs that go on. Needs the extra `view`.
"""

from __future__ import annotations

import getpass
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
    words: Annotated[
        Path | None,
        typer.Option(
            "--words", help="Where people's verdicts go; not given: words.jsonl among the runs.", show_default=False
        ),
    ] = None,
    who: Annotated[
        str, typer.Option("--who", help="Your name beside them; not given: your user's.", show_default=False)
    ] = "",
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
    from cosmo_cli.view.words import Words

    output = Output("view", quiet=quiet)
    places = paths or [runs]
    library, token = Library(places), new_token()
    found = library.entries()
    kept = Words(words or words_file(places[0]), who or getpass.getuser())

    def ready(at: int) -> None:
        address = f"http://127.0.0.1:{at}/{token}/"
        output.say(f"{len(found):,} runs; Ctrl-C ends it")
        emit_path(address)
        if show:
            typer.launch(address)

    try:
        serve(application(Pages(library, f"/{token}", kept), token), port, ready)
    except OSError as error:
        raise UnavailableError(
            f"port {port} can't be used: {error.strerror}", "--port 0 takes any that is free"
        ) from None


def words_file(place: Path) -> Path:
    """Where words go by default: beside the runs, where these are in a folder of this machine."""
    from stages.core.storage.location import is_url

    if is_url(place):
        return Path("words.jsonl")
    return (place.parent if (place / "manifest.json").is_file() else place) / "words.jsonl"


COMMAND = command
