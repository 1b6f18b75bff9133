"""`cosmo train` on several processes: starting them, being one of them, and only one of them speaking."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stages.train.config import TrainConfig
from stages.train.parallel import ranks
from stages.train.parallel.launch import launch, wanted

# Whoever launched the ranks ends all of them when one has failed: within this time only the first has spoken.
OTHERS_WAIT, BEREFT_WAIT = 3.0, 15.0


def on_ranks(config: TrainConfig, inputs: list[Path], given: dict[str, Any]) -> bool:
    """In place of a run in this process: True where several are wanted, or this is one of several."""
    if given["dry_run"]:
        return False
    if ranks.launched():
        be_rank(config, inputs, given)
        return True
    return wanted(config) and start_ranks(config, inputs, given)


def start_ranks(config: TrainConfig, inputs: list[Path], given: dict[str, Any], mute: bool = False) -> bool:
    """Launch them, to their end; False where the run is complete already. `mute`: only failures are told."""
    from cosmo_cli.stage_command import load_stage, options_of
    from stages.core.config import as_dict
    from stages.core.runner import run_stage
    from stages.core.runs.folder import RunFolder

    options = options_of({**given, "dry_run": True}, None)
    planned = run_stage(load_stage("train"), config, inputs, options=options)
    if (found := RunFolder.find(planned.path)) is not None and found.complete:
        return False
    kept = ("runs", "worker", "partial", "dry_run", "json", "quiet")
    job = {
        "config": as_dict(config),
        "inputs": [str(path) for path in inputs],
        "given": {name: str(given[name]) if name == "runs" else given[name] for name in kept},
        "mute": mute,
    }
    with tempfile.TemporaryDirectory(prefix="cosmo-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        launch(config, ["-m", "cosmo_cli.rank_output", str(path)])
    return True


def be_rank(config: TrainConfig, inputs: list[Path], given: dict[str, Any]) -> None:
    """Rank 0 runs the command; the others train with it, silently."""
    # Read when torch is loaded: DDP warns of a model that might have unused parts and has none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from cosmo_cli.output import stdout_to_stderr
    from cosmo_cli.stage_command import run_command
    from stages.train.trainer_isolation import quiet_imports

    if not ranks.first():
        _hush()
    with stdout_to_stderr():
        quiet_imports()
        ranks.join(config.device)
    if ranks.first():
        _lead(lambda: run_command("train", config, inputs, given, None))
    else:
        from stages.train.parallel.followers import follow
        from stages.train.stage import train

        if code := follow(train):
            raise SystemExit(code)


def _lead(run: Any) -> None:
    from cosmo_cli.errors import explain
    from stages.train.parallel.followers import LEADER

    try:
        run()
    except BaseException as error:
        LEADER.dismiss(explain(error)[2])
        raise
    LEADER.dismiss(0)


class _Voice:
    """Where stderr went while a rank is silent."""

    kept: int | None = None


def _hush() -> None:
    """Rank 0 says what all have to say: the others' libraries talk to nobody."""
    from cosmo_cli.errors import debugging

    if debugging():
        return
    sys.stderr.flush()
    _Voice.kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def wait_to_speak(error: BaseException) -> bool:
    """Whether to say what went wrong. With several ranks the one that failed first does, and it ends the others."""
    if not ranks.launched():
        return True
    from stages.train.parallel.stop import STOP, StoppedError

    mine = ranks.first()
    if isinstance(error, StoppedError):
        # After Ctrl-C it is the launcher that says so.
        return mine and not STOP.by_launcher
    if isinstance(error, KeyboardInterrupt) or (ranks.bereft(error) and STOP.signalled):
        return False
    if ranks.bereft(error):
        time.sleep(BEREFT_WAIT)
    elif not mine:
        time.sleep(OTHERS_WAIT)
    if _Voice.kept is not None:
        os.dup2(_Voice.kept, 2)
    return True


def main() -> int:
    """A rank that `start_ranks` launched."""
    from cosmo_cli.app import guarded
    from cosmo_cli.process import settle
    from stages.core.config import build

    settle()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    given = {**job["given"], "runs": Path(job["given"]["runs"])}
    config = build(TrainConfig, job["config"], "train")
    if job["mute"]:
        given["quiet"] = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return guarded("train", lambda: be_rank(config, [Path(p) for p in job["inputs"]], given))


def end(code: int) -> None:
    """Leave without taking anything down: gloo may abort a process whose peers are gone already."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
