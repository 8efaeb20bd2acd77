"""The nodes from outside, as their host sees them: processes to freeze or kill, the network to stand in. Linux, root."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.kube import NODE, nodes, run


def processes(*, command: str, environment: str = "") -> list[int]:
    """Ids of processes inside the cluster's nodes, by what stands in their command line and environment."""
    ids = [run("docker", "inspect", "-f", "{{.Id}}", node).strip() for node in nodes()]
    found = []
    for folder in Path("/proc").iterdir():
        try:
            inside = folder.name.isdigit() and any(i in (folder / "cgroup").read_text() for i in ids)
            if inside and command in _words(folder / "cmdline") and environment in _words(folder / "environ"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stopped, as by a node that hangs: connections stay open and nothing answers."""
    assert pids, "there is no such process"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def network() -> list[str]:
    """Words before a command that runs in the control plane's network."""
    return ["nsenter", "-n", "-t", run("docker", "inspect", "-f", "{{.State.Pid}}", NODE).strip()]


def address() -> str:
    """From which `network` calls."""
    return run("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", NODE).strip()


def kubeconfig(folder: Path) -> Path:
    """The administrator's, as it works in the control plane's network."""
    text = run("docker", "exec", NODE, "cat", "/etc/kubernetes/admin.conf")
    path = folder / "kubeconfig"
    path.write_text(text.replace(f"https://{NODE}:", "https://127.0.0.1:"))
    path.chmod(0o600)
    return path


def _words(file: Path) -> str:
    return file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
