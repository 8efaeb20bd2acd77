"""What a person gets wrong, and what breaks around us: each is said with what to do next, and whatever serves goes on serving."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import pytest
import yaml

from aiservice.api.status import DecisionKind
from local.machine import Machine, Running, condition, decided, infer, ready, stable

GOOD = {
    "apiVersion": "aiservice.dev/v1alpha1",
    "kind": "AIService",
    "metadata": {"name": "svc"},
    "spec": {"model": {"uri": "file://v1"}},
}


def serving(box: Machine) -> Running:
    box.bundle("v1")
    box.ask("v1")
    return box.up()


def hears(up: Running, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in " ".join(up.said.split()):
        assert up.process.poll() is None, up.said
        assert time.monotonic() < deadline, up.said
        time.sleep(0.05)


def test_a_manifest_is_deleted_while_it_serves(box: Machine) -> None:
    up = serving(box)
    box.manifest().unlink()
    seen = box.until(lambda s: condition(s, "Stalled").startswith("True"))
    assert "was deleted; svc serves on with its last good manifest" in condition(seen, "Stalled")
    assert ready(seen)
    hears(up, "was deleted")
    assert infer(up.url)["outputs"]
    box.ask("v1")
    box.until(lambda s: condition(s, "Stalled").startswith("False"))


WRONG = (
    (
        yaml.safe_dump(GOOD | {"spec": {"model": {"uri": "file://v1"}, "rolout": {}}}),
        "spec.rolout: there is no such field; did you mean 'rollout'?",
    ),
    ("a: [1", "is not YAML"),
    (yaml.safe_dump(GOOD | {"metadata": {"name": "elsewhere"}}), "metadata.name: 'elsewhere' given, this service is 'svc'"),
    ("", "holds 0 documents"),
)


def test_a_manifest_becomes_wrong_while_it_serves(box: Machine) -> None:
    up = serving(box)
    before = box.status().rollout
    for text, words in WRONG:
        box.write(text)
        seen = box.until(lambda s: words in condition(s, "Stalled"))  # noqa: B023
        assert condition(seen, "Stalled").startswith("True")
        hears(up, words)
        assert ready(seen)
        assert seen.rollout == before
        assert infer(up.url)["outputs"]
    box.bundle("v2", bias=0.001)
    two = box.ask("v2", insufficientEvidence="Promote", replay={"requests": 0}, gates={"errors": {"margin": "20%"}})
    box.until(lambda s: s.rollout.candidate == two and condition(s, "Stalled").startswith("False"))
    hears(up, "is right again")


def test_half_a_manifest_is_not_taken_for_a_whole_one(box: Machine) -> None:
    """It is written slowly; the part that is there first is a valid manifest of its own."""
    up = serving(box)
    box.bundle("v2", bias=0.001)
    box.bundle("v3", bias=0.002)
    whole = box.manifest().read_text().replace("file://v1", "file://v2")
    with box.manifest().open("w") as file:
        for end in ("2", "3"):
            file.seek(0)
            file.write(whole.replace("file://v2", f"file://v{end}"))
            file.flush()
            time.sleep(0.15)
    seen = box.until(lambda s: s.rollout.candidate)
    assert len([d for d in seen.rollout.decisions if d.kind is DecisionKind.STARTED]) == 2, up.said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (yaml.safe_dump(GOOD | {"kind": "Service"}), "kind: 'Service' given, expected 'AIService'"),
        (yaml.safe_dump(GOOD) + "---\n" + yaml.safe_dump(GOOD), "holds 2 documents, expected one AIService"),
        (None, "there is no such file"),
    ],
    ids=["kind", "two", "missing"],
)
def test_up_refuses_a_wrong_manifest(box: Machine, text: str | None, words: str) -> None:
    if text is not None:
        box.write(text)
    done = box.cli("up", "-f", str(box.manifest()), "--port", str(box.port))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert str(box.manifest()) in done.stderr
    assert not box.state.exists()


def test_two_manifests_of_one_name(box: Machine) -> None:
    box.write(yaml.safe_dump(GOOD))
    box.write(yaml.safe_dump(GOOD), "other")
    done = box.cli("up", "-f", str(box.manifest()), "-f", str(box.manifest("other")))
    assert (done.returncode, "metadata.name: 'svc' is also in" in done.stderr) == (2, True), done.stderr


def test_a_port_in_use(box: Machine) -> None:
    box.bundle("v1")
    box.ask("v1")
    with socket.socket() as s:
        s.bind(("127.0.0.1", box.port))
        s.listen()
        done = box.cli("up", "-f", str(box.manifest()), "--port", str(box.port))
    assert done.returncode == 1
    assert f"127.0.0.1:{box.port} cannot be used (address already in use); choose another with --port" in done.stderr
    assert box.processes() == []


@pytest.mark.parametrize("address", ["localhost", "nowhere", "1.2.3"])
def test_an_address_that_is_none(box: Machine, address: str) -> None:
    box.bundle("v1")
    box.ask("v1")
    done = box.cli("up", "-f", str(box.manifest()), "--port", str(box.port), "--listen", address)
    assert (done.returncode, "expected an IP address" in done.stderr) == (1, True), done.stderr


def test_a_bundle_that_comes_later(box: Machine) -> None:
    box.ask("v1")
    up = box.up(wait=False)
    seen = box.until(lambda s: "v1" in condition(s, "Ready") and s.revisions[0].message.count("/v1"), up=up)
    assert condition(seen, "Ready").startswith("False Starting")
    assert str(box.folder / "v1") in condition(seen, "Ready")
    assert box.cli("status", "svc").returncode == 1
    box.bundle("v1")
    box.until(ready, up=up)
    assert infer(up.url)["outputs"]


def test_a_second_up_on_the_same_state_leaves_the_first_alone(box: Machine) -> None:
    up = serving(box)
    before = box.processes()
    for port in (box.port, box.port + 1):
        second = box.cli("up", "-f", str(box.manifest()), "--port", str(port))
        assert second.returncode == 1
        assert f"'svc' is already looked after by `aiservice up` pid {up.process.pid} (svc)" in second.stderr
    assert box.processes() == before
    assert infer(up.url)["outputs"]


def test_damaged_state_or_that_of_another_version_is_not_touched(box: Machine) -> None:
    """What a killed run left serving serves on."""
    up = serving(box)
    up.kill()
    for file, text in (("status.json", "{"), ("status.json", '{"version": 99}'), ("status.json", ""), ("service.json", "[]")):
        place = box.store().folder / file
        good = place.read_text()
        place.write_text(text)
        done = box.cli("up", "-f", str(box.manifest()), "--port", str(box.port))
        assert done.returncode == 1, done.stderr
        assert f"{place}: the saved state cannot be read" in done.stderr
        assert "nothing was changed" in done.stderr
        assert place.read_text() == text
        assert infer(up.url)["outputs"]
        place.write_text(good)
    (box.store().folder / "status.json").write_text("{")
    assert box.cli("status", "svc").returncode == 2
    (box.store().folder / "status.json").unlink()
    assert infer(box.up().url)["outputs"]


def test_a_state_folder_that_cannot_be_written(box: Machine) -> None:
    box.ask("v1")
    (box.folder / "file").write_text("")
    done = box.cli("up", "-f", str(box.manifest()), AISERVICE_STATE=str(box.folder / "file" / "s"))
    assert (done.returncode, "set AISERVICE_STATE to a folder that can" in done.stderr) == (1, True), done.stderr


def test_a_state_folder_with_too_long_a_path(box: Machine) -> None:
    box.ask("v1")
    done = box.cli("up", "-f", str(box.manifest()), "--port", str(box.port), AISERVICE_STATE=str(box.folder / ("x" * 90)))
    assert (done.returncode, "set AISERVICE_STATE to a shorter path" in done.stderr) == (1, True), done.stderr


def fill(up: Running) -> None:
    """Nothing longer than two thousand bytes can be written: no status, no route, no model; words to its log can."""
    resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


def test_no_space_for_state(box: Machine) -> None:
    """It serves on, says so, loses nothing; once there is space again it goes on by itself."""
    up = serving(box)
    box.bundle("v2", bias=0.001)
    before = (box.store().folder / "status.json").read_text()
    fill(up)
    two = box.ask("v2", insufficientEvidence="Promote", replay={"requests": 0}, gates={"errors": {"margin": "20%"}})
    hears(up, "cannot save its state (File too large")
    assert infer(up.url)["outputs"]
    assert (box.store().folder / "status.json").read_text() == before
    resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    box.until(stable(two), up=up)
    assert len(box.predictors()) == 2
    assert not list(box.store().folder.glob(".*"))


def test_a_predictor_that_dies_while_there_is_no_space_is_replaced_once(box: Machine) -> None:
    up = serving(box)
    fill(up)
    os.kill(box.predictors()[0], 9)
    hears(up, "cannot save its state")
    time.sleep(2)
    assert len(box.predictors()) <= 1
    resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    box.until(lambda s: ready(s) and box.predictors() and s.revisions[0].ready == 1, up=up)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert infer(up.url)["outputs"]
            break
        except OSError:
            time.sleep(0.2)
    assert len(box.predictors()) == 1


def test_nobody_listens_to_what_is_said(box: Machine) -> None:
    """`aiservice up 2>&1 | head -1`: the reader goes, the service stays."""
    import subprocess
    import sys

    box.bundle("v1")
    box.ask("v1")
    command = [sys.executable, "-m", "aiservice.cli", "up", "-f", str(box.manifest()), "--port", str(box.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=box.env) as up:
        try:
            assert up.stdout is not None
            up.stdout.close()
            box.until(ready)
            box.bundle("v2", bias=0.001)
            two = box.ask("v2", insufficientEvidence="Promote", replay={"requests": 0}, gates={"errors": {"margin": "20%"}})
            box.until(decided(two, DecisionKind.PROMOTED))
        finally:
            up.terminate()
            assert up.wait(60) == 0
    assert box.processes() == []


def test_one_service_in_trouble_does_not_hurt_the_other(box: Machine, tmp_path: Path) -> None:
    box.bundle("v1")
    box.ask("v1")
    box.ask("v1", "other")
    up = box.up("svc", "other")
    (box.store("other").folder / "status.json").unlink()
    (box.store("other").folder / "status.json").mkdir()
    (box.store("other").folder / "status.json" / "in the way").touch()
    box.bundle("v2", bias=0.001)
    two = box.ask("v2", insufficientEvidence="Promote", replay={"requests": 0}, gates={"errors": {"margin": "20%"}})
    box.ask("v2", "other")
    hears(up, "other cannot save its state")
    box.until(stable(two))
    assert infer(up.url, name="other")["outputs"]
