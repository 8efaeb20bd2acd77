"""Bundles to read, and real servers to fetch them from: SeaweedFS for s3://, a TLS server with its own authority for https://."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
import pytest
import trustme
from obstore.store import S3Store

from aiservice.bundle import fetch as fetching

MakeBundle = Callable[..., str]
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}


@pytest.fixture(autouse=True)
def quick_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine leaks in, and a retry costs nothing."""
    for variable in [v for v in os.environ if v.startswith("AWS_") or v.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(fetching, "BACKOFF", (0.01, 0.01, 0.01))


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """make_bundle(folder, model=b"...", **fields of bundle.json to replace) -> digest."""

    def make(folder: Path, model: bytes = b"not really onnx" * 1000, **fields: Any) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        tensor = {"datatype": "FP32", "shape": [1, 1], "data": [0.5]}
        contents = {
            "model.onnx": model,
            "golden.json": json.dumps([{"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "p", **tensor}]}]).encode(),
            "reference.json": json.dumps([{"inputs": [{"name": "x", **tensor}], "label": "yes", "weight": 2.5}]).encode(),
        }
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        manifest = {
            "name": "sample",
            "opset": 18,
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
            "outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 1]}],
            "decision": {"kind": "Threshold", "output": "p", "threshold": 0.5, "positive": "yes", "negative": "no"},
            "files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in contents.items()},
        } | fields
        data = json.dumps(manifest).encode()
        (folder / "bundle.json").write_bytes(data)
        return "sha256:" + hashlib.sha256(data).hexdigest()

    return make


@dataclass
class Site:
    """A server of the files under `root`, and what it was asked."""

    root: Path
    url: str = ""
    gets: Counter[str] = field(default_factory=Counter)
    cut: dict[str, int] = field(default_factory=dict)
    """Path -> how often the connection is cut half-way through it."""
    status: dict[str, int] = field(default_factory=dict)
    """Path -> answer this instead."""
    delay: dict[str, float] = field(default_factory=dict)
    """Path -> seconds before its second half."""
    closing: threading.Event = field(default_factory=threading.Event)
    authority: Path = Path()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An https server on 127.0.0.1 whose certificate only `authority` vouches for."""
    root = tmp_path / "site"
    root.mkdir()
    found = Site(root)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.gets[self.path] += 1
            path = root / self.path.lstrip("/")
            if self.path in found.status or not path.is_file():
                self.send_response(found.status.get(self.path, 404))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            half = len(data) // 2
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
            self.end_headers()
            self.wfile.write(data[:half])
            self.wfile.flush()
            if found.cut.get(self.path, 0) > 0:
                found.cut[self.path] -= 1
                self.close_connection = True
                return
            found.closing.wait(found.delay.get(self.path, 0))
            self.wfile.write(data[half:])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no error of ours."""

    authority = trustme.CA()
    found.authority = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(found.authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS with one user and the bucket `models`. -> endpoint."""
    folder = tmp_path_factory.mktemp("weed")
    identity = {"name": "test", "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}))
    ports = _free_ports(8)
    names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    )
    command = [str(Path(sys.executable).parent / "weed"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    command += ["-s3", f"-s3.config={folder}/s3.json", "-master.volumeSizeLimitMB=64", "-volume.max=4", "-master.telemetry=false"]
    endpoint = f"http://127.0.0.1:{ports[6]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | {"HOME": str(folder)})
        try:
            store = s3_store(endpoint)
            deadline = time.monotonic() + 60
            while True:
                try:
                    obstore.put(store, "ready", b"yes")
                    break
                except Exception:
                    if process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"SeaweedFS did not come up:\n{(folder / 'log').read_text()[-3000:]}")
                    time.sleep(0.2)
            yield endpoint
        finally:
            process.kill()
            process.wait()


def s3_store(endpoint: str) -> S3Store:
    return S3Store(
        "models",
        endpoint=endpoint,
        access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


@pytest.fixture
def s3(weed: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store to publish to; the environment is set as a user sets it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    return s3_store(weed)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
