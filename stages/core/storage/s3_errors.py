"""What a store's answers mean to a person: one line, an exit code, a hint, and no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from stages.core.errors import InputError, UnavailableError, first_line
from stages.core.storage.location import BucketFolder

CREDENTIALS = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is not Amazon's, AWS_ENDPOINT_URL"


class Refused(UnavailableError):
    """The store knows us, or does not, and says no. Exit 4."""


@contextmanager
def answers(place: BucketFolder, key: str) -> Iterator[None]:
    """Around a request: the store's errors as InputError, Refused or UnavailableError; FileNotFoundError passes."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    where = f"{place.url}/{key}".rstrip("/")
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        text = str(error)
        if "NoSuchBucket" in text:
            raise InputError(
                f"no such bucket: s3://{place.bucket}", "check its name and AWS_ENDPOINT_URL, or create it"
            ) from None
        if isinstance(error, FileNotFoundError):
            raise
        # A refused listing is a plain error to the library.
        refused = re.search(r"status code: 40[13]", text)
        if refused or isinstance(error, PermissionDeniedError | UnauthenticatedError):
            raise Refused(f"{where}: the store refused these credentials ({_reason(error)})", CREDENTIALS) from None
        # Without any in the environment, the library asks the cloud's own address for machines.
        if "169.254." in text:
            raise UnavailableError(f"{where}: no credentials for the store", CREDENTIALS) from None
        raise UnavailableError(
            f"{where}: the store can't be used ({_reason(error)})",
            "check AWS_ENDPOINT_URL and the network; the same command goes on where it stopped",
        ) from None


def _reason(error: BaseException) -> str:
    """The status and the store's code for it, or what the network said; never an address, a header or a body."""
    text = str(error)
    status = re.search(r"status code: (\d{3}[\w ]*)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return ", ".join(m.group(1).strip() for m in (status, code) if m)
    return first_line(error).rsplit(" - ", 1)[-1].removeprefix("HTTP error: ")[:160]
