"""The parts of the local world that touch nothing: manifests, the autoscaler, Envoy's files."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aiservice.api.service import AIService
from aiservice.api.status import RevisionStatus, Role
from aiservice.core import names
from aiservice.core.render import everything
from aiservice.local import autoscale, envoy, manifest, rendered
from aiservice.local.autoscale import PATIENCE, Advice, Bounds, Metric
from aiservice.local.envoy import Backend, Routed
from aiservice.local.files import Locked, cut, is_locked, locked, write_whole
from local.test_bad_input import GOOD

HERE = Path("/here/service.yaml")


def spec(**more: Any) -> str:
    return yaml.safe_dump(GOOD | {"spec": {"model": {"uri": "file://v1"}} | more})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (spec(rolout={}), "spec.rolout: there is no such field; did you mean 'rollout'?"),
        (spec(realTime={"replicas": {"minimum": 1}}), "spec.realTime.replicas.minimum: there is no such field; did you mean 'min'?"),
        (spec(rollout={"steps": [{"wait": 1}]}), "spec.rollout.steps.0.wait: there is no such field; did you mean 'weight'?"),
        (spec(zzz=1), "known here: model, realTime, rollout"),
        (spec(rollout={"standby": "1 hour"}), "spec.rollout.standby: '1 hour' given, expected a duration such as 500ms, 2m or 1h30m"),
        (spec(rollout={"gates": {"errors": {"margin": "0.5"}}}), "spec.rollout.gates.errors.margin: '0.5' given, expected a percentage such as"),
        (spec(rollout={"confidence": "20%"}), "spec.rollout.confidence: '20%' given, expected a percentage from 50% to 99.999%"),
        (spec(realTime={"resources": {"requests": {"memory": "1GB"}}}), "'1GB' given, expected an amount such as 500m, 2 or 1Gi"),
        (spec(model={"uri": "/models/v1"}), "spec.model.uri: '/models/v1' given, expected a URI that begins with file://, s3:// or https://"),
        (spec(model={"uri": "file://v1", "digest": "9f2c"}), "'9f2c' given, expected sha256: and 64 hexadecimal digits"),
        (spec(realTime={"replicas": {"min": 3, "max": 2}}), "spec.realTime.replicas: replicas.min must not exceed replicas.max"),
        (spec(realTime={"replicas": {"min": True}}), "spec.realTime.replicas.min: true given"),
        (spec(realTime={"replicas": {"min": "2"}}), 'spec.realTime.replicas.min: "2" given'),
        (spec(rollout={"steps": [{"weight": 50}, {"weight": 5}]}), "spec.rollout: rollout.steps: weights must rise from step to step"),
        (spec(rollout={"promotion": "Manually"}), "spec.rollout.promotion: \"Manually\" given, input should be 'Automatic' or 'Manual'"),
        (spec(rollout={"gates": {"latency": {}}}), "spec.rollout.gates.latency.slo: is required"),
        (yaml.safe_dump(GOOD | {"metadata": {"name": "Svc_1"}}), "metadata.name: 'Svc_1' given, expected lower-case letters, digits and -"),
        (yaml.safe_dump(GOOD | {"metadata": {}}), "metadata.name: is required"),
        (yaml.safe_dump({k: v for k, v in GOOD.items() if k != "spec"}), "spec: is required"),
        (yaml.safe_dump(GOOD | {"apiVersion": "v1"}), "apiVersion: 'v1' given, expected 'aiservice.dev/v1alpha1'"),
        ("", "holds 0 documents, expected one AIService"),
        ("# nothing", "holds 0 documents, expected one AIService"),
        ("- 1\n- 2", "holds a list, expected one AIService"),
        ("just words", "holds a text, expected one AIService"),
        ("a: [1", "is not YAML"),
        ("\tx", "is not YAML"),
        ("kind: AIService\nkind: AIService", "'kind' stands twice"),
        (yaml.safe_dump(GOOD) + "2020-01-01: x", "2020-01-01: there is no such field"),
        ("[" * 3000, "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_field_the_value_and_what_was_expected(text: str, words: str) -> None:
    with pytest.raises(manifest.Invalid) as caught:
        manifest.parse(text, HERE)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(HERE))


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(manifest.Invalid) as caught:
        manifest.parse(spec(rolout={}, rollout={"standby": "soon", "deadline": "late"}), HERE)
    assert len(caught.value.problems) == 3


def test_a_relative_model_starts_at_the_manifest() -> None:
    assert manifest.parse(spec(), HERE).spec.model.uri == "file:///here/v1"
    assert manifest.parse(spec(model={"uri": "file:///v1"}), HERE).spec.model.uri == "file:///v1"
    assert manifest.parse(spec(model={"uri": "s3://b/v1"}), HERE).spec.model.uri == "s3://b/v1"


def test_a_manifest_as_kubectl_prints_it_is_taken() -> None:
    """With a status, a uid, managed fields."""
    text = yaml.safe_dump(
        GOOD | {"metadata": {"name": "svc", "uid": "1", "creationTimestamp": "x", "managedFields": []}, "status": {"x": 1}}
    )
    assert manifest.parse(text, HERE).metadata.name == "svc"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers() | st.booleans(), inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING, st.sampled_from(["", "spec", "metadata"]))
def test_whatever_stands_in_a_manifest_it_is_taken_or_answered(value: Any, place: str) -> None:
    body = value if not place else GOOD | {place: value}
    with contextlib.suppress(manifest.Invalid):
        assert isinstance(manifest.parse(yaml.safe_dump(body), HERE), AIService)


@given(st.text(max_size=60))
def test_whatever_text_a_manifest_is_it_is_taken_or_answered(text: str) -> None:
    with pytest.raises(manifest.Invalid):
        manifest.parse(text, HERE)


BOUNDS = st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda b: Bounds(b[0], b[0] + b[1], Metric.CPU, 80))


@given(st.integers(0, 60), st.none() | st.floats(0, 2000), BOUNDS)
def test_advice_is_within_the_bounds(current: int, use: float | None, bounds: Bounds) -> None:
    advised = autoscale.advise(current, use, bounds)
    if use is not None and current:
        assert bounds.least <= advised <= bounds.most
    if use is not None and current and abs(use / 80 - 1) <= 0.1:
        assert advised == min(max(current, bounds.least), bounds.most)


@given(BOUNDS, st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 40)), min_size=1, max_size=12), st.integers(1, 40))
def test_up_at_once_down_with_patience(bounds: Bounds, moves: list[tuple[float, int]], start: int) -> None:
    advice, now, size = [Advice(0.0, start)], 0.0, start
    for wait, advised in moves:
        now += wait
        advice.append(Advice(now, advised))
        before, size = size, autoscale.settle(size, advice, now, bounds)
        assert bounds.least <= size <= bounds.most
        if advised >= before:
            assert size == min(max(advised, bounds.least), bounds.most)
        elif bounds.least <= before <= bounds.most:
            highest = max(a.replicas for a in advice if now - a.at <= PATIENCE)
            assert size == max(min(before, highest), bounds.least)
            assert size <= before


REVISION = st.from_regex(r"\Ar[0-9a-f]{8}\Z")


@st.composite
def services(draw: st.DrawFn) -> list[AIService]:
    out = []
    for name in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True)):
        revisions = draw(st.lists(REVISION, min_size=1, max_size=3, unique=True))
        weight = draw(st.integers(0, 99)) if len(revisions) > 1 else 0
        given = manifest.parse(yaml.safe_dump(GOOD | {"metadata": {"name": name}}), HERE)
        made_from = names.template(given.spec)
        shares = [100 - weight, weight, 0]
        live = [RevisionStatus(name=r, role=Role.STABLE, template=made_from, weight=s) for r, s in zip(revisions, shares, strict=False)]
        out.append(given.model_copy(update={"status": given.status.model_copy(update={"revisions": live})}))
    return out


@given(services())
def test_every_cluster_that_is_routed_to_exists_and_weights_add_up(given: list[AIService]) -> None:
    routed = [rendered.routed(everything(s, s.status.revisions), s.metadata.name, "default", 10, {}, 1234) for s in given]
    files = {name: json.loads(text) for name, text in envoy.files(routed, "127.0.0.1", 8080, "/x").items()}
    clusters = {c["name"] for c in files["cds.json"]["resources"]}
    for host in files["rds.json"]["resources"][0]["virtual_hosts"]:
        for route in (r["route"] for r in host["routes"] if "route" in r):
            shares = route.get("weighted_clusters", {}).get("clusters", [{"name": route.get("cluster"), "weight": 100}])
            assert sum(s["weight"] for s in shares) == 100
            assert {s["name"] for s in shares} <= clusters
    assert {f"eds-{c}.json" for c in clusters} == files.keys() - {"cds.json", "lds.json", "rds.json"}
    dump = {"configs": [{"route_config": files["rds.json"]["resources"][0]}]}
    assert envoy.weights(dump, routed) == {s.metadata.name: {r.name: r.weight for r in s.status.revisions if r.weight} for s in given}


def test_a_weight_reaches_both_protocols() -> None:
    pair = ({"a-r1": 90, "a-r2": 10}, {"a-r1-grpc": 90, "a-r2-grpc": 10})
    backends = tuple(Backend(f"r{i}", f"a-r{i}", f"a-r{i}-grpc", (i,), (i + 10,)) for i in (1, 2))
    files = envoy.files([Routed("a", "default", 1, backends, *pair, 9)], "127.0.0.1", 1, "/x")
    assert envoy.ports(json.loads(files["eds-a-r1.json"])) == {1}
    assert envoy.ports(json.loads(files["eds-a-r2-grpc.json"])) == {12}
    text = files["rds.json"]
    assert text.count('"weight": 10') == text.count('"a-r2-grpc"') + text.count('"a-r2"') > 2


def test_answers_are_counted_wherever_the_client_stands() -> None:
    stats = [("external", "5xx", 1), ("internal", "5xx", 2), ("external", "completed", 10), ("internal", "completed", 20)]
    found = envoy.answers({"stats": [{"name": f"cluster.a.b.{w}.upstream_rq_{k}", "value": n} for w, k, n in stats]})
    assert found == {"a.b": (3, 30)}


def test_a_recipe_is_what_was_rendered() -> None:
    service = manifest.parse(spec(realTime={"replicas": {"min": 2, "max": 5}, "batching": {"maxSize": 7}}), HERE)
    made_from = names.template(service.spec)
    objects = everything(service, [RevisionStatus(name="r00000000", role=Role.STABLE, template=made_from, weight=100)])
    recipe, bounds, requests = rendered.predictors(objects, "svc", "secret")["r00000000"]
    assert (bounds.least, bounds.most, bounds.metric, bounds.target) == (2, 5, "cpu", 80)
    assert recipe.env["AISERVICE_BATCH_MAX_SIZE"] == "7"
    assert recipe.uri == "file:///here/v1"
    assert requests == {"cpu": "500m", "memory": "256Mi"}


def test_a_log_keeps_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as writer:
        for i in range(1000):
            writer.write(b"line %d\n" % i)
        writer.flush()
        cut(log, 1000)
        writer.write(b"last\n")
    lines = log.read_text().splitlines()
    assert log.stat().st_size <= 110
    assert lines[-2:] == ["line 999", "last"]
    assert lines[0].startswith("line ")


def test_a_lock_names_its_holder_and_asking_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "lock"
    assert not is_locked(path)
    with locked(path, "me"):
        assert is_locked(path)
        with pytest.raises(Locked, match="me"), locked(path, "you"):
            pass
    assert not is_locked(path)


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    place = tmp_path / "file"
    write_whole(place, "old", private=True)
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "none" / "file", "x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "folder", "new")
    assert place.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
