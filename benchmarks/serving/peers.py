"""The servers that are compared: how each is installed, started and asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from .load import SERVER_CORE, memory, pinned
from .payloads import NAME, Payload

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(__file__).with_name("servers")
CACHE = Path.home() / ".cache" / "aiservice-bench"
_ORT = "onnxruntime==1.31.1"
_STARTS_WITHIN = 180.0


@dataclass(frozen=True)
class Peer:
    """One server."""

    name: str
    command: tuple[str, ...]
    """{python}, {bin}: of its environment; {model}, {http}, {grpc}, {folder} (its own, empty)."""
    packages: tuple[str, ...] = ()
    """Installed into an environment of its own; none: this one's."""
    path: str = f"/v2/models/{NAME}/infer"
    loads: tuple[str, ...] = ("json1", "json32")
    """Payloads that it understands."""
    env: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable


def compiled() -> Peer:
    """The predictor as the image holds it. Ends the program where `make compile` was not run."""
    folder = ROOT / "build" / "compiled"
    if not any(folder.glob("*.so")):
        sys.exit("needed: make compile")
    return ours((folder, ROOT / "operator"), "aiservice")


def plain(revision: Path = ROOT, name: str = "aiservice, plain Python") -> Peer:
    """The predictor of a checkout, as it stands there."""
    return ours((revision / "operator", revision / "predictors"), name)


def ours(folders: Sequence[Path], name: str) -> Peer:
    env = {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "AISERVICE_MODEL_NAME": NAME,
        "AISERVICE_MODEL_DIR": "{model}",
        "AISERVICE_HOST": "127.0.0.1",
        "AISERVICE_HTTP_PORT": "{http}",
        "AISERVICE_GRPC_PORT": "{grpc}",
    }
    loads = ("json1", "json32", "bin1", "bin32", "grpc1", "grpc32", "bin-conv", "grpc-conv")
    return Peer(name, ("{python}", "-m", "aiservice_predictor"), loads=loads, env=env)


OTHERS = (
    Peer(
        "kserve",
        ("{python}", str(SERVERS / "kserve_server.py"), "{model}", "{http}", "{grpc}"),
        ("kserve==0.21.0", _ORT, "numpy==2.4.6", "httptools", "uvloop"),
        loads=("json1", "json32", "bin32", "grpc1", "grpc32", "bin-conv", "grpc-conv"),
    ),
    Peer(
        "mosec",
        ("{python}", str(SERVERS / "mosec_server.py"), "--port", "{http}", "--address", "127.0.0.1", "--log-level", "error"),
        ("mosec==0.9.8", _ORT, "numpy==2.4.6", "orjson"),
        path="/inference",
        env={"BENCH_MODEL": "{model}"},
    ),
    Peer(
        "MLServer",
        ("{bin}/mlserver", "start", "{folder}"),
        ("mlserver==1.7.1", _ORT, "numpy==2.4.6", "uvloop==0.21.0"),
        env={
            "BENCH_MODEL": "{model}", "MLSERVER_HTTP_PORT": "{http}", "MLSERVER_GRPC_PORT": "{grpc}", "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_MODEL_NAME": NAME, "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_model.Onnx", "PYTHONPATH": str(SERVERS),
            "MLSERVER_DEBUG": "false", "MLSERVER_METRICS_ENDPOINT": "",
        },
    ),
    Peer(
        "LitServe",
        ("{python}", str(SERVERS / "litserve_server.py"), "{model}", "{http}"),
        ("litserve==0.2.19", _ORT, "numpy==2.4.6"),
        path="/predict",
    ),
    Peer(
        "BentoML",
        ("{bin}/bentoml", "serve", "bentoml_server:Onnx", "--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", "{http}"),
        ("bentoml==1.4.39", _ORT, "numpy==2.4.6"),
        path="/infer",
        env={"BENCH_MODEL": "{model}", "BENTOML_DO_NOT_TRACK": "true"},
    ),
    Peer(
        "PyTriton",
        ("{python}", str(SERVERS / "pytriton_server.py"), "{model}", "{http}", "{grpc}"),
        ("nvidia-pytriton==0.7.0", "onnxruntime", "numpy==1.26.4"),
        python=shutil.which("python3.11", path="/usr/bin") or sys.executable,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    process: int
    url: str
    grpc: int
    ready: float
    """Seconds from its start to its first right answer."""
    idle: int
    """Bytes resident then."""


def install(peer: Peer) -> Path:
    """Its environment, made if it is not there; -> the folder of its programs."""
    if not peer.packages:
        return Path(peer.python).parent
    folder = CACHE / peer.name.lower()
    if not (folder / ".ready").exists():
        print(f"installing {peer.name} into {folder} ...", file=sys.stderr, flush=True)
        if not (folder / "bin" / "python").exists():
            subprocess.run([peer.python, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *peer.packages], check=True)
        (folder / ".ready").touch()
    return folder / "bin"


@contextmanager
def running(peer: Peer, model: Path, probe: Payload, cores: str = SERVER_CORE) -> Iterator[Running]:
    """Started on its cores, and asked until it answers rightly. Raises RuntimeError where it never does."""
    programs = install(peer)
    http, grpc = _free(), _free()
    with tempfile.TemporaryDirectory() as folder:
        if peer.name == "MLServer":
            (Path(folder) / "model-settings.json").write_text(f'{{"name": "{NAME}", "implementation": "mlserver_model.Onnx"}}')
        words = {"python": str(programs / "python"), "bin": str(programs), "model": model, "http": http, "grpc": grpc, "folder": folder}
        env = {k: v.format(**words) for k, v in peer.env.items()}
        command = pinned(cores, *(part.format(**words) for part in peer.command))
        with open(Path(folder) / "log", "wb") as log:
            start = time.perf_counter()
            process = subprocess.Popen(
                command, env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": folder} | env, stdout=log, stderr=log, cwd=folder,
                start_new_session=True,
            )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{http}{peer.path}"
            _await(process, url, probe, Path(folder) / "log")
            yield Running(process.pid, url, grpc, time.perf_counter() - start, memory(process.pid))
        finally:
            for number in (15, 9):
                with_group(process.pid, number)
                try:
                    process.wait(10)
                    break
                except subprocess.TimeoutExpired:
                    continue
            with_group(process.pid, 9)


def with_group(pid: int, number: int) -> None:
    """Signal a server and whatever it started."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _await(process: subprocess.Popen[bytes], url: str, probe: Payload, log: Path) -> None:
    content, end = probe.path.read_bytes(), time.perf_counter() + _STARTS_WITHIN
    headers = {"content-type": "application/json"}
    if probe.json_size is not None:
        headers["inference-header-content-length"] = f"{probe.json_size}"
    with httpx.Client(trust_env=False, timeout=5, headers=headers) as client:
        while time.perf_counter() < end and process.poll() is None:
            try:
                answer = client.post(url, content=content)
                if answer.status_code == 200 and probe.answer in answer.content:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.01)
    raise RuntimeError(f"{url} does not answer rightly: {log.read_text(errors='replace')[-2000:]}")


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
