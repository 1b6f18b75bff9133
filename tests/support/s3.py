"""A small S3-compatible server: what the protocol promises, and a hook to misbehave at a chosen request.

Objects are kept in memory. Signatures are not checked, only that a request has one.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID, SECRET = "test-key-id", "test-secret-never-to-be-written"


@dataclass
class Object:
    """One object."""

    data: bytes
    modified: float = field(default_factory=time.time)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class Server(ThreadingHTTPServer):
    """`hook(method, key)` sees every request first: None lets it pass; `drop` hangs up instead of doing it, `lose`
    does it and hangs up instead of answering, `refuse` answers 403. A hook may also wait."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, bucket: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bucket = bucket
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, str]] = []
        self.hook: Callable[[str, str], str | None] = lambda method, key: None
        self.lock = threading.Lock()
        self.page = 1000

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def names(self, part: str = "") -> list[str]:
        """Keys that hold this text, sorted."""
        return sorted(k for k in self.objects if part in k)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        verb = "COPY" if "x-amz-copy-source" in self.headers else self.command
        with self.server.lock:
            self.server.requests.append((verb, key or query.get("prefix", "")))
        fate = self.server.hook(verb, key)
        self.lost = fate == "lose"
        if fate == "drop":
            self.close_connection = True
        elif fate == "refuse" or not self.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential="):
            self._error(403, "AccessDenied")
        elif bucket != self.server.bucket:
            self._error(404, "NoSuchBucket")
        else:
            with self.server.lock:
                getattr(self, f"_{verb.lower()}")(key, query, body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _get(self, key: str, query: dict[str, str], body: bytes) -> None:
        if not key:
            return self._list(query)
        if (found := self.server.objects.get(key)) is None:
            return self._error(404, "NoSuchKey")
        data, first = found.data, 0
        self.server.ranges.append((key, self.headers.get("range", "")))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if wanted:
            first, end = int(wanted[1]), int(wanted[2] or len(data) - 1) + 1
            if first >= len(data):
                return self._error(416, "InvalidRange")
            data = data[first:end]
        more = {"content_range": f"bytes {first}-{first + len(data) - 1}/{len(found.data)}"} if wanted else {}
        return self._send(206 if wanted else 200, data, found, **more)

    def _head(self, key: str, query: dict[str, str], body: bytes) -> None:
        found = self.server.objects.get(key)
        self._send(200, found.data, found) if found else self._error(404, "NoSuchKey")

    def _put(self, key: str, query: dict[str, str], body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != self.headers.get("x-amz-content-sha256"):
            return self._error(400, "XAmzContentSHA256Mismatch")
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return self._send(200, b"", Object(body))
        if self.headers.get("if-none-match") == "*" and key in self.server.objects:
            return self._error(412, "PreconditionFailed")
        self.server.objects[key] = Object(body)
        return self._send(200, b"", self.server.objects[key])

    def _copy(self, key: str, query: dict[str, str], body: bytes) -> None:
        source = unquote(self.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        if source not in self.server.objects:
            return self._error(404, "NoSuchKey")
        self.server.objects[key] = made = Object(self.server.objects[source].data)
        return self._xml(f"<CopyObjectResult><ETag>{made.etag}</ETag></CopyObjectResult>")

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = {}
            names = f"<Bucket>{self.server.bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return self._xml(f"<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>")
        parts = self.server.uploads.pop(query["uploadId"])
        listed = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        if listed != sorted(parts) or any(len(parts[n]) < 5 << 20 for n in listed[:-1]):
            return self._error(400, "InvalidPart")
        self.server.objects[key] = made = Object(b"".join(parts[n] for n in listed))
        names = f"<Bucket>{self.server.bucket}</Bucket><Key>{escape(key)}</Key><ETag>{made.etag}</ETag>"
        return self._xml(f"<CompleteMultipartUploadResult>{names}</CompleteMultipartUploadResult>")

    def _delete(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(key, None)
        self._send(204, b"")

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", "")
        entries: dict[str, str] = {}
        for key in sorted(k for k in self.server.objects if k.startswith(prefix)):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                name = prefix + head + delimiter
                entries[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            else:
                entries[key] = _contents(key, self.server.objects[key])
        left = sorted(n for n in entries if n > after)
        page = left[: self.server.page]
        more = len(left) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        inner = "".join(entries[n] for n in page)
        self._xml(
            f"<ListBucketResult><Name>{self.server.bucket}</Name><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{inner}</ListBucketResult>"
        )

    def _xml(self, text: str) -> None:
        self._send(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode())

    def _error(self, status: int, code: str) -> None:
        # Like the real one, it tells a refused client its own key id.
        said = f"<Error><Code>{code}</Code><Message>no</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
        self._send(status, said.encode())

    def _send(self, status: int, data: bytes, about: Object | None = None, **headers: str) -> None:
        if self.lost:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if about is not None:
            self.send_header("etag", about.etag)
            self.send_header("last-modified", formatdate(about.modified, usegmt=True))
        if status != 204:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _contents(key: str, found: Object) -> str:
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.modified))
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified><ETag>{escape(found.etag)}</ETag>"
        f"<Size>{len(found.data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


@contextmanager
def serving(bucket: str = "bucket") -> Iterator[Server]:
    """A server with one empty bucket for as long as the block runs."""
    server = Server(bucket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
