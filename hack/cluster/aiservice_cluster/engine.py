"""The Docker engine: the one that answers, or Debian's, installed and started here."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .settings import HERE, Settings
from .shell import Failure, atomic, environment, prefer, run, say, step, succeeds, until

CAP_SYS_RESOURCE = 24


def ensure(settings: Settings) -> None:
    """Afterwards `docker` is the fitting client and an engine answers it."""
    prefer(settings.tools)
    _choose_client(settings)
    if answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise Failure(f"No Docker engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}: start it, or unset DOCKER_HOST")
    if os.geteuid() != 0:
        raise Failure("No Docker engine answers, and only root may install and start one: start Docker, or run this as root on Debian")
    if not shutil.which("dockerd"):
        _install()
        _choose_client(settings)
    with step("start dockerd"):
        _start(settings)


def answers() -> bool:
    return succeeds("docker", "version", "--format", "{{.Server.Version}}", timeout=20)


def _install() -> None:
    if not shutil.which("apt-get"):
        raise Failure("No Docker engine answers and this is not Debian: install Docker and start it")
    with step("install Debian's docker.io"):
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-qy", "--no-install-recommends", "docker.io", env={"DEBIAN_FRONTEND": "noninteractive"})


def _choose_client(settings: Settings) -> None:
    """A client that can build: newer ones need the buildx plugin, Debian's 20.10 has BuildKit inside."""
    elsewhere = [Path(folder) for folder in os.get_exec_path() if Path(folder).resolve() != settings.tools.resolve()]
    found = [path for folder in elsewhere if (path := folder / "docker").exists()]
    able = [path for path in found if succeeds(path, "buildx", "version") or _major(path) < 23]
    link = settings.tools / "docker"
    if able or found:
        with atomic(link) as scratch:
            scratch.symlink_to((able or found)[0])


def _major(client: Path) -> int:
    try:
        return int(run(client, "--version").split("version ")[1].split(".")[0])
    except (Failure, IndexError, ValueError):
        return 99


def lacks_sys_resource() -> bool:
    status = Path("/proc/self/status").read_text()
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    return not int(bounding, 16) >> CAP_SYS_RESOURCE & 1


def _start(settings: Settings) -> None:
    folder = settings.cache / "engine"
    folder.mkdir(parents=True, exist_ok=True)
    if running_pid(settings) is None:
        _pid_file(settings).unlink(missing_ok=True)  # of a machine that went down
    command = ["dockerd", "--pidfile", str(_pid_file(settings))]
    if lacks_sys_resource():
        lean = folder / "runc-lean"
        shutil.copy(HERE / "node" / "runc-lean", lean)
        lean.chmod(0o755)
        command += ["--add-runtime", f"lean={lean}", "--default-runtime", "lean"]
        say("    this machine has no CAP_SYS_RESOURCE: containers do without it (runc-lean)")
    log = folder / "dockerd.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(), cwd="/", start_new_session=True
        )
    until("dockerd", lambda: answers() or process.poll() is not None, 60, f"see {log}")
    if process.poll() is not None:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise Failure(f"dockerd ended at once; the end of {log}:\n{last}")


def _pid_file(settings: Settings) -> Path:
    return settings.cache / "engine" / "dockerd.pid"


def running_pid(settings: Settings) -> int | None:
    """The dockerd that this harness started, if it still runs."""
    try:
        pid = int(_pid_file(settings).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"dockerd" in command else None


def stop(settings: Settings) -> None:
    """End the dockerd that this harness started, and no other."""
    pid = running_pid(settings)
    if pid is None:
        say("  no dockerd of this harness runs")
        return
    with step(f"stop dockerd ({pid})"):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 60
        while running_pid(settings) == pid and time.monotonic() < end:
            time.sleep(0.5)


def can_pull(image: str) -> bool:
    """Whether the engine reaches a registry: it has the image, or a manifest answers within seconds."""
    if succeeds("docker", "image", "inspect", image):
        return True
    return succeeds("docker", "manifest", "inspect", image, timeout=20, env={"DOCKER_CLI_EXPERIMENTAL": "enabled"})


def has_image(image: str) -> bool:
    return succeeds("docker", "image", "inspect", image)
