"""`python -m examples.reproduce`: run every variant with every seed, then write the table.

Everything is `cosmo run` on recipes that this writes beside their results, so each can be looked at and repeated
alone. What is done already is found on disk: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from examples import own_process
from examples.reproduce.columns import columns
from examples.reproduce.table import write_table
from examples.reproduce.variants import HERE, Variant, recipe_text, start, variants
from examples.reproduce.verifier import Cosmo, make_verifier, measure_verifier
from stages.core.atomic import read_json
from stages.core.errors import InputError


def main() -> int:
    """0 when every run is complete and the table written; 1 when a run failed."""
    options = _options()
    chosen = [v for v in variants(options.recipes) if not options.only or v.name in options.only]
    # What variants share comes first: their supervised starts, then the verifier that some are judged by.
    starts = _starts(chosen)
    judged = [v for v in chosen if v.needs_verifier]
    with ThreadPoolExecutor(options.jobs) as pool:
        begun = [pool.submit(_run, v, seed, options) for v in starts for seed in options.seeds]
        wait(begun)
        verifiers = {(v.name, s): pool.submit(_verifier, v, s, options) for v in _starts(judged) for s in options.seeds}
        others = [v for v in chosen if v not in judged]
        runs = [pool.submit(_run, v, seed, options) for v in others for seed in options.seeds]
        # Last, so that nobody waits long for a verifier.
        runs += [
            pool.submit(_judged, v, s, options, verifiers[start(v).name, s]) for v in judged for s in options.seeds
        ]
    failed = [name for done in (*begun, *verifiers.values(), *runs) if (name := done.result())]
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    write_table(chosen, options.seeds, options.runs, columns(options.recipes))
    return 1 if failed else 0


def _starts(of: list[Variant]) -> list[Variant]:
    """Their supervised starts, each once."""
    return list({s.name: s for s in map(start, of)}.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.reproduce", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--recipes", type=Path, default=HERE, help="folder of base.toml, variants.toml and table.toml")
    parser.add_argument("--only", nargs="*", default=[], help="these variants alone")
    return parser.parse_args()


def _run(variant: Variant, seed: int, options: argparse.Namespace) -> str:
    """One recipe to its end; its name when it failed, "" otherwise."""
    place = options.runs / f"seed-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    measured = place / f"{start(variant).name}.verifier.json"
    verifier = read_json(measured)["verifier"] if variant.needs_verifier and measured.is_file() else ""
    recipe = place / f"{variant.name}.toml"
    recipe.write_text(recipe_text(variant, seed, verifier), encoding="utf-8")
    return _told(variant.name, seed, lambda: _cosmo(place / f"{variant.name}.log", place, options)("run", recipe))


def _judged(variant: Variant, seed: int, options: argparse.Namespace, verifier: Future[str]) -> str:
    """The same, once its verifier is there or has failed to be."""
    verifier.result()
    return _run(variant, seed, options)


def _verifier(begun: Variant, seed: int, options: argparse.Namespace) -> str:
    """The verifier of a start, trained and measured; its name when it failed, "" otherwise."""
    place = options.runs / f"seed-{seed}"
    cosmo = _cosmo(place / f"{begun.name}.verifier.log", place, options)
    summary = place / f"{begun.name}.json"

    def make() -> None:
        sizes = options.recipes / "verifier.toml"
        verifier = make_verifier(cosmo, place / f"{begun.name}.toml", summary, seed, sizes)
        measure_verifier(cosmo, summary, verifier, place / f"{begun.name}.verifier.json")

    return _told(f"{begun.name}, verifier", seed, make)


def _told(name: str, seed: int, do: Callable[[], object]) -> str:
    began = time.monotonic()
    try:
        do()
        how, failed = "done", ""
    except subprocess.CalledProcessError as error:
        how, failed = f"exit {error.returncode}, see {error.output}", f"{name}, seed {seed}"
    except (InputError, OSError) as error:
        # What it starts from is not there: the run before it failed and said why.
        how, failed = f"not started: {error}", f"{name}, seed {seed}"
    print(f"{name}, seed {seed}: {how} ({time.monotonic() - began:.0f} s)", flush=True)
    return failed


def _cosmo(log: Path, runs: Path, options: argparse.Namespace) -> Cosmo:
    """A function that runs `cosmo ARGS` with its share of the threads and returns what it printed."""
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    return partial(own_process.cosmo, runs, threads=threads, log=log)


if __name__ == "__main__":
    sys.exit(main())
