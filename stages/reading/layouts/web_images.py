"""Images by web address, downloaded once into the user cache: only where a person asked for it."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request

from stages.core.cache import cache_root
from stages.core.errors import BadSample, first_line
from stages.reading.files import write_cache_file

MAX_BYTES = 64 << 20
_SECONDS = 20.0


def downloaded(address: str) -> bytes:
    """The bytes behind an http address; BadSample `missing_image` or `too_large`."""
    note = cache_root() / "web_images" / hashlib.sha256(address.encode()).hexdigest()
    try:
        return note.read_bytes()
    # Not there yet; a cache decides nothing.
    except OSError:
        pass
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "cosmo"})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            data: bytes = answer.read(MAX_BYTES + 1)
    # ValueError: an address that is none; OSError holds URLError and what sockets say.
    except (OSError, ValueError) as error:
        raise BadSample("missing_image", f"can't download {address[:80]}: {first_line(error)}") from None
    if len(data) > MAX_BYTES:
        raise BadSample("too_large", f"{address[:80]} has more than {MAX_BYTES} bytes")
    write_cache_file(note, data)
    return data
