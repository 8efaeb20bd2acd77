"""An API server as far as kubectl-aiservice asks one, with the real state machine behind its one annotation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from aiservice.api.service import AIService
from aiservice.api.status import Phase, Role
from aiservice.cli.in_cluster import COMMAND
from aiservice.core import names
from aiservice.core.plan import plan
from aiservice.core.world import Command, Observed, Running, Verb
from core.history import spec

START = datetime(2026, 1, 1, tzinfo=UTC)


def service(name: str = "svc", namespace: str = "shop", *uris: str) -> AIService:
    """One that serves the first model and, if there is a second, prepares it."""
    made = AIService.model_validate({"metadata": {"name": name, "namespace": namespace}, "spec": spec("s3://m/none")})
    for uri in uris or ("s3://m/v1",):
        made = made.model_copy(update={"spec": spec(uri)})
        for _ in range(3):
            made = look(made)
    return made


def look(of: AIService, command: Command | None = None) -> AIService:
    revisions = {names.revision(names.template(of.spec)), *(r.name for r in of.status.revisions)}
    stable = of.status.rollout.stable
    seen = Observed(START, {r: Running(1, 1, f"sha256:{'0' * 64}") for r in revisions}, {stable: 100} if stable else {}, command=command)
    return of.model_copy(update={"status": plan(of, seen).status.model_copy(update={"url": "http://svc.shop.localhost:1/v2/models/svc"})})


@dataclass
class Api:
    """`deaf`: no operator carries anything out. `answer`: what every request gets instead."""

    kubeconfig: Path
    services: dict[tuple[str, str], AIService] = field(default_factory=dict)
    answer: tuple[int, Any] | None = None
    deaf: bool = False
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def add(self, *given: AIService) -> None:
        self.services |= {(s.metadata.namespace, s.metadata.name): s for s in given}

    def reply(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if self.answer:
            return self.answer
        if path.startswith("/api/v1/"):
            return 200, {"status": {"token": "of-" + path.split("/")[-2]}} if path.endswith("/token") else {"matched": 1, "unknown": 1}
        parts = [unquote(p) for p in path.partition("?")[0].removeprefix("/apis/aiservice.dev/v1alpha1/").split("/")]
        if parts == ["aiservices"]:
            return 200, {"items": [self._wire(s) for s in self.services.values()]}
        _, namespace, _, *name = parts
        if not name:
            return 200, {"items": [self._wire(s) for (space, _), s in self.services.items() if space == namespace]}
        found = self.services.get((namespace, name[0]))
        if found is None:
            return 404, status(404, f'aiservices.aiservice.dev "{name[0]}" not found', name[0])
        if method == "PATCH" and not self.deaf:
            text = body["metadata"]["annotations"][COMMAND]
            self.add(look(look(found, Command(text, Verb(text.partition(":")[0])))))
        return 200, self._wire(self.services[namespace, name[0]])

    def _wire(self, of: AIService) -> dict[str, Any]:
        """As a list gives it: without kind; with metadata that is not ours."""
        meta = of.metadata.wire() | {"resourceVersion": "7", "managedFields": []}
        return {"metadata": meta, "spec": of.spec.wire(), "status": of.status.wire()}


def status(code: int, message: str, name: str = "") -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message, "details": {"name": name, "kind": "aiservices"}}


@contextmanager
def api(folder: Path) -> Iterator[Api]:
    made = Api(folder / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.tokens.append(self.headers.get("X-Aiservice-Authorization", ""))
            length = int(self.headers.get("Content-Length") or 0)
            code, said = made.reply(self.command, self.path, json.loads(self.rfile.read(length) or "null"))
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_PATCH = do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    write(made.kubeconfig, f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write(path: Path, server: str, namespace: str = "shop") -> Path:
    """A kubeconfig."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def candidate(of: AIService) -> str:
    assert of.status.rollout.phase is Phase.REPLAYING
    return next(r.name for r in of.status.revisions if r.role is Role.CANDIDATE)
