"""Where models are fetched from: file://, s3:// and https://. One small interface, told apart by the URI alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore, S3Store

from aiservice.bundle.read import Refused

CHUNK = 2**20
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_CLIENT = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "6h"}


class Absent(Exception):
    """The source answers, and has no such file."""


class Flaky(Exception):
    """The network or the server failed: trying again may help. The text says what happened."""


@dataclass
class Body:
    """A file that is about to be read."""

    size: int
    etag: str | None
    chunks: AsyncIterator[bytes]


class Source(Protocol):
    """Raises Absent, Flaky, or Refused (SourceUnavailable) where trying again is useless; reading the chunks does as well."""

    async def get(self, name: str) -> Body: ...

    def address(self, name: str) -> str:
        """The file's full URI, for messages."""


def open_source(uri: str, env: Mapping[str, str] | None = None) -> Source:
    """The folder `uri` (file:///absolute, s3://bucket/prefix, https://host/path). Touches no network. Raises Refused (SourceUnavailable).

    s3:// takes the standard AWS_* variables, among them AWS_ENDPOINT_URL, AWS_ALLOW_HTTP and AWS_SKIP_SIGNATURE (public buckets), and
    without keys asks the instance or pod identity service; AWS_PROFILE is not read. Certificate authorities in the PEM file
    SSL_CERT_FILE, for s3:// also AWS_CA_BUNDLE, are trusted besides the system's.
    """
    env = os.environ if env is None else env
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return _Folder(_local_path(uri, rest))
    url = urlsplit(uri)
    if url.query or url.fragment:
        raise Refused("SourceUnavailable", f"{uri}: a query or fragment is not supported; name the folder or the .onnx file alone")
    retry: Any = {"max_retries": 0}
    try:
        if scheme == "s3" and url.netloc:
            options: Any = _CLIENT | _authorities(env, "SSL_CERT_FILE", "AWS_CA_BUNDLE")
            if env.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"):
                options["allow_http"] = True
            prefix = url.path.strip("/") or None
            return _Objects(uri, S3Store(url.netloc, prefix=prefix, client_options=options, retry_config=retry), env)
        if scheme == "https" and url.netloc:
            options = _CLIENT | _authorities(env, "SSL_CERT_FILE")
            return _Objects(uri, HTTPStore(uri, client_options=options, retry_config=retry), env)
    except (BaseError, ValueError) as e:
        raise Refused("SourceUnavailable", f"{uri}: {_first_line(e)}") from None
    raise Refused(
        "SourceUnavailable",
        f"{uri}: expected file:///absolute/path, s3://bucket/prefix or https://host/path (pvc:// and oci:// need a cluster)",
    )


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def address(self, name: str) -> str:
        return f"file://{self._path / name}"

    async def get(self, name: str) -> Body:
        path = self._path / name
        try:
            return Body((await asyncio.to_thread(path.stat)).st_size, None, self._chunks(path))
        except (FileNotFoundError, NotADirectoryError):
            raise Absent from None
        except OSError as e:
            raise Refused("SourceUnavailable", f"{path}: cannot be read: {e.strerror or e}") from None

    async def _chunks(self, path: Path) -> AsyncIterator[bytes]:
        try:
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    yield chunk
            finally:
                file.close()
        except OSError as e:
            raise Refused("SourceUnavailable", f"{path}: cannot be read: {e.strerror or e}") from None


class _Objects:
    def __init__(self, uri: str, store: S3Store | HTTPStore, env: Mapping[str, str]) -> None:
        self._uri, self._store, self._env = uri.rstrip("/"), store, env

    def address(self, name: str) -> str:
        return f"{self._uri}/{name}"

    async def get(self, name: str) -> Body:
        try:
            answer = await obstore.get_async(self._store, name)
        except Exception as e:
            raise self._translated(e, name) from None
        meta = answer.meta
        return Body(meta["size"], meta["e_tag"], self._chunks(answer, name))

    async def _chunks(self, answer: obstore.GetResult, name: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)
        except (BaseError, OSError, ValueError) as e:
            raise self._translated(e, name) from None

    def _translated(self, error: Exception, name: str) -> Exception:
        text, line = str(error), _first_line(error)
        if isinstance(error, FileNotFoundError):
            return Absent()
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return Refused("SourceUnavailable", f"{self.address(name)}: access denied: {line}{self._credentials()}")
        if "169.254." in text:
            return Refused("SourceUnavailable", f"{self.address(name)}: no credentials found{self._credentials()}")
        if "certificate" in text.lower():
            hint = "set SSL_CERT_FILE to a PEM file with its authority"
            return Refused("SourceUnavailable", f"{self.address(name)}: its TLS certificate is not trusted ({_cause(text)}); {hint}")
        if "scheme is not allowed" in text or "BadScheme" in text:
            return Refused(
                "SourceUnavailable", f"{self.address(name)}: the endpoint is plain http; set AWS_ALLOW_HTTP=true if that is meant"
            )
        if isinstance(error, BaseError | OSError):
            return Flaky(f"{line} ({_cause(text)})" if _cause(text) else line)
        return error

    def _credentials(self) -> str:
        if not self._uri.startswith("s3:"):
            return ""
        told = ", ".join(f"{v} {'is set' if self._env.get(v) else 'is not set'}" for v in CREDENTIALS)
        return f"; looked at {told}. A public bucket needs AWS_SKIP_SIGNATURE=true"


def _local_path(uri: str, rest: str) -> Path:
    path = Path(rest.removeprefix("localhost"))
    if not path.is_absolute():
        raise Refused("SourceUnavailable", f"{uri}: a file:// path must be absolute here, as in file:///srv/models/fraud")
    return path if path.exists() else Path(unquote(str(path)))


def _authorities(env: Mapping[str, str], *variables: str) -> dict[str, Any]:
    found = [(v, env[v]) for v in variables if env.get(v)]
    try:
        return {"root_certificate": b"\n".join(Path(path).read_bytes() for _, path in found)} if found else {}
    except OSError as e:
        named = ", ".join(f"{v}={path}" for v, path in found)
        raise Refused("SourceUnavailable", f"{named}: cannot be read: {e.strerror or e}") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()


def _cause(text: str) -> str:
    """The innermost cause that the client's debug text names, such as `Connection refused` or `UnknownIssuer`."""
    for word in ("UnknownIssuer", "Connection refused", "dns error", "Connection reset", "operation timed out", "unexpected EOF"):
        if word.lower() in text.lower():
            return word
    return ""
