"""A verifier by name, with the version that its grades carry."""

from __future__ import annotations

from dataclasses import replace

from schemas.identity import digest
from stages.core.errors import UsageError
from stages.core.registry import load, plugin_key, short_name
from stages.score.config import ScoreConfig
from stages.score.verifiers.base import ModelVerifier, Verifier


def load_verifier(name: str, config: ScoreConfig) -> Verifier | ModelVerifier:
    """The verifier under a config. UsageError for an unknown name, for code that fails, and for what is no verifier.

    Scored rows keep a grade where its verifier has the same version, so a verifier whose code goes by digest has that
    as a number: an edited one grades anew.
    """
    plugin = load("verifier", name)
    made = plugin(config) if callable(plugin) else plugin
    if not isinstance(made, Verifier | ModelVerifier):
        raise UsageError(f"verifier {name} makes a {type(made).__name__} of the config", "it must be a ModelVerifier")
    if isinstance(made, Verifier) and made.bind is not None:
        # From outside it is called as its object is, which `bind` can't know.
        made = replace(made.bind(config), name=made.name)
    identity = plugin_key("verifier", name)[1]
    if isinstance(identity, int):
        return made
    if isinstance(made, ModelVerifier):
        return replace(made, name=short_name(name), identity={**made.identity, "source": identity})
    if isinstance(plugin, Verifier) and made.version != plugin.version:
        # An edited one under settings: other settings are other grades, as those of the unedited one are.
        return replace(made, version=int(digest([identity, made.version])[:7], 16))
    # As many digits as a model verifier's version has; see `ModelVerifier.version`.
    return replace(made, version=int(identity.removeprefix("sha256:")[:7], 16))
