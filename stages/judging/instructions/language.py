"""Which language a text is in, as IFEval asks: by langdetect, seeded, so the same text is always the same language."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from stages.core.errors import UnavailableError

_SEED = 0
"""langdetect smooths with random numbers; unseeded, a short text may change its language from call to call."""


@cache
def _factory() -> Any:
    # langdetect's own shared factory is visible to other threads before its profiles are loaded.
    try:
        from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
    except ImportError:
        raise UnavailableError("langdetect is not installed", "pip install langdetect") from None
    factory = DetectorFactory()
    factory.set_seed(_SEED)
    factory.load_profile(PROFILES_DIRECTORY)
    return factory


@lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language (`fr`, `zh-cn`), or None where there is nothing to tell by."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.append(text)
    try:
        found = str(detector.detect())
    # Raised where a text holds no letters to tell by.
    except LangDetectException:
        return None
    return None if found == "unknown" else found
