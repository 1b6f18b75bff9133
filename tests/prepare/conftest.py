"""No test reads or writes a person's own cache; what a run encodes can be counted."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image as Pillow


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The images that were encoded so far, in whatever way."""
    images: list[object] = []
    save = Pillow.Image.save

    def noted(self: Pillow.Image, *given: Any, **more: Any) -> None:
        images.append(self)
        save(self, *given, **more)

    monkeypatch.setattr(Pillow.Image, "save", noted)
    return images
