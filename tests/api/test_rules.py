"""Each rule is said twice, as CEL for the API server and as Python: on random specs the two say the same."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aiservice.api.base import ApiModel
from aiservice.api.service import AIService
from aiservice.api.spec import AIServiceSpec

DURATIONS = st.sampled_from(["0s", "0ms", "1ms", "100ms", "999ms", "1s", "1001ms", "2s", "1m30s", "2h"])
PERCENTS = st.sampled_from(["0%", "0.5%", "50%", "100%", "12.5%"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def weight(step: dict[str, Any]) -> int:
    return int(step["weight"])


def by_weight(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(steps, key=weight)


STEP = st.fixed_dictionaries({"weight": st.integers(1, 99)}, optional={"hold": DURATIONS})
ANYHOW = st.lists(STEP, min_size=1, max_size=10)
STEPS = st.one_of(ANYHOW, ANYHOW.map(by_weight), st.lists(STEP, min_size=1, max_size=10, unique_by=weight).map(by_weight))
GATES = optional(
    agreement=optional(min=PERCENTS),
    errors=optional(margin=PERCENTS),
    latency=st.fixed_dictionaries({"slo": DURATIONS}, optional={"margin": PERCENTS}),
    quality=optional(metric=st.sampled_from(["Accuracy", "Recall", "Precision"]), margin=PERCENTS),
)
ROLLOUT = optional(
    replay=optional(requests=st.sampled_from([0, 1, 1000]), memory=st.sampled_from(["0", "64Mi", "1Gi"])), steps=STEPS, gates=GATES
)
REAL_TIME = optional(
    replicas=optional(min=st.integers(1, 5), max=st.integers(1, 5)),
    scaling=optional(
        metric=st.sampled_from(["Cpu", "Memory", "Concurrency", "RequestsPerSecond", "Query"]),
        target=st.sampled_from([1, 80, 1000, 1001, 1_000_000]),
        query=st.just("sum(rate(orders_total[1m]))"),
    ),
    batching=optional(maxSize=st.integers(1, 64), maxDelay=DURATIONS),
)
SPECS = st.fixed_dictionaries({"model": st.just({"uri": "s3://models/v1"})}, optional={"rollout": ROLLOUT, "realTime": REAL_TIME})
SERVICES = st.fixed_dictionaries({"metadata": st.fixed_dictionaries({"name": st.integers(1, 60).map(lambda n: "a" * n)}), "spec": SPECS})

ENV = cel.NewEnv(variables={"self": cel.Type.DYN})
COMPILED: dict[str, Any] = {}


def cel_holds(rule: str, value: dict[str, Any]) -> bool:
    if rule not in COMPILED:
        COMPILED[rule] = ENV.compile(rule)
    found = COMPILED[rule].eval(data={"self": value}).value()
    assert isinstance(found, bool), f"{rule}: {found}"
    return found


def defaulted(model: type[ApiModel], given_: dict[str, Any]) -> dict[str, Any]:
    """As the API server sees it: with every default filled in, whatever rules say."""
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        alias = field.alias or name
        kind = inner(field.annotation)
        if alias in given_:
            value = given_[alias]
            out[alias] = defaulted(kind, value) if kind and isinstance(value, dict) else value
            if kind and isinstance(value, list):
                out[alias] = [defaulted(kind, v) for v in value]
        elif field.default is not None and not field.is_required():
            out[alias] = default_of(model, name, alias)
    return out


@cache
def default_of(model: type[ApiModel], name: str, alias: str) -> Any:
    default = model.model_fields[name].default
    if isinstance(default, ApiModel):
        return default.wire()
    return json.loads(model.model_construct().model_dump_json(include={name}, by_alias=True))[alias]


def inner(annotation: Any) -> type[ApiModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return annotation
    return next((found for a in getattr(annotation, "__args__", ()) if (found := inner(a))), None)


def broken(model: type[ApiModel], value: dict[str, Any]) -> list[str]:
    """Messages of the CEL rules that do not hold, everywhere in a defaulted object."""
    out = [r.message for r in model.rules if not cel_holds(r.cel, value)]
    for name, field in model.model_fields.items():
        kind, part = inner(field.annotation), value.get(field.alias or name)
        if kind and part is not None:
            for item in part if isinstance(part, list) else [part]:
                if isinstance(item, dict):
                    out += broken(kind, item)
    return out


@settings(max_examples=2000, deadline=None)
@given(SPECS)
def test_cel_and_python_agree_on_random_specs(spec: dict[str, Any]) -> None:
    expected = broken(AIServiceSpec, defaulted(AIServiceSpec, spec))
    try:
        AIServiceSpec.model_validate_json(json.dumps(spec))
        said: list[str] = []
    except ValidationError as error:
        said = [str(e["msg"]) for e in error.errors()]
    assert bool(expected) == bool(said), (expected, said)
    for message in said:
        assert any(e in message for e in expected), (message, expected)


@settings(max_examples=300, deadline=None)
@given(SERVICES)
def test_cel_and_python_agree_on_names(service: dict[str, Any]) -> None:
    holds = all(cel_holds(r.cel, service) for r in AIService.rules)
    try:
        AIService.model_validate_json(
            json.dumps({k: v for k, v in service.items() if k == "metadata"} | {"spec": {"model": {"uri": "s3://m/v"}}})
        )
        accepted = True
    except ValidationError:
        accepted = False
    assert holds == accepted


def rules() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def walk(model: type[ApiModel]) -> None:
        found.extend((model.__name__, r.message) for r in model.rules)
        for field in model.model_fields.values():
            kind = inner(field.annotation)
            if kind:
                walk(kind)

    walk(AIService)
    return found


BREAKING: dict[str, dict[str, Any]] = {
    "replicas.min must not exceed replicas.max": {"realTime": {"replicas": {"min": 3, "max": 2}}},
    "scaling.target is needed with metric": {"realTime": {"scaling": {"metric": "Concurrency"}}},
    "scaling.target is a percentage": {"realTime": {"scaling": {"target": 1001}}},
    "scaling.query is the PromQL": {"realTime": {"scaling": {"metric": "Query", "target": 1}}},
    "batching.maxDelay must not exceed 1s": {"realTime": {"batching": {"maxDelay": "2s"}}},
    "latency.slo must be longer than 0s": {"rollout": {"gates": {"latency": {"slo": "0s"}}}},
    "rollout.steps: weights must rise from step to step": {"rollout": {"steps": [{"weight": 50}, {"weight": 25}]}},
    "rollout.gates.agreement is judged in replay": {"rollout": {"replay": {"requests": 0}, "gates": {"agreement": {}}}},
    "rollout.replay.memory is 0": {"rollout": {"replay": {"requests": 10, "memory": "0"}}},
}


@pytest.mark.parametrize("message", BREAKING)
def test_each_rule_can_be_broken_and_says_so(message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace(".", r"\.")):
        AIServiceSpec.model_validate_json(json.dumps({"model": {"uri": "s3://m/v"}} | BREAKING[message]))
    assert any(
        message in said for said in broken(AIServiceSpec, defaulted(AIServiceSpec, {"model": {"uri": "s3://m/v"}} | BREAKING[message]))
    )


def test_no_rule_is_left_out_here() -> None:
    names = {"metadata.name must not be longer"}
    assert all(any(said.startswith(known) for known in {*BREAKING, *names}) for _, said in rules())
