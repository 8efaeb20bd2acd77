"""The live table: what a person on call wants to see at one glance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aiservice.api.service import AIService
from aiservice.api.status import Condition, Decision, DecisionKind, Phase, Role, Verdict
from aiservice.cli.source import Seen, Source

GOOD, BAD, WAIT = "green", "red", "yellow"
COLOURS = {
    DecisionKind.PROMOTED: GOOD,
    DecisionKind.RESTORED: GOOD,
    DecisionKind.REJECTED: BAD,
    DecisionKind.ROLLED_BACK: BAD,
    DecisionKind.REFUSED: BAD,
    DecisionKind.INSUFFICIENT_EVIDENCE: WAIT,
}
VERDICTS = {Verdict.PASS: ("Pass", GOOD), Verdict.FAIL: ("Fail", BAD), Verdict.UNDECIDED: ("Undecided", WAIT)}
PHASES = {Phase.STABLE: GOOD, Phase.REJECTED: BAD, Phase.ROLLED_BACK: BAD, Phase.REFUSED: BAD}


def line_of(name: str, decision: Decision) -> str:
    """One decision as one line."""
    colour = COLOURS.get(decision.kind, "cyan")
    gate = f" by {decision.gate}" if decision.gate else ""
    return f"[bold]{name}[/bold]  [{colour}]{decision.kind.value}[/{colour}] {decision.revision}{gate}: {escape(decision.message)}"


def _condition(service: AIService, kind: str) -> Condition | None:
    return next((c for c in service.status.conditions if c.type == kind), None)


def ready(service: AIService, running: bool) -> bool:
    """As its status says; one that nobody looks after is not."""
    said = _condition(service, "Ready")
    return running and said is not None and said.status == "True"


def age(since: datetime, now: datetime) -> str:
    """12s, 5m, 3h, 2d."""
    left = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if left >= 2 * size:
            return f"{left // size}{unit}"
    return f"{left}s"


def overview(services: Sequence[Seen], *, namespaces: bool = False) -> Table:
    """One line a service, as `kubectl get ais` prints it."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in (*(("NAMESPACE",) if namespaces else ()), "NAME", "READY", "STABLE", "CANARY", "WEIGHT", "PHASE", "URL"):
        table.add_column(column, no_wrap=True)
    for service, running in services:
        state, said = service.status.rollout, _condition(service, "Ready")
        table.add_row(
            *((service.metadata.namespace,) if namespaces else ()),
            service.metadata.name,
            (said.status if said else "Unknown") if running else "Unknown",
            state.stable or "",
            state.candidate or "",
            f"{state.weight}" if state.candidate else "",
            state.phase.value if running else "NotRunning",
            service.status.url or "",
        )
    return table


def watched(service: AIService, running: bool, source: Source, *, wide: bool = False) -> RenderableType:
    """One service, whole."""
    now = datetime.now(UTC)
    state = service.status.rollout
    parts: list[RenderableType] = [_head(service, running), _revisions(service, now)]
    if state.gates:
        parts.append(_gates(service))
    if state.replay and not state.weight and state.candidate:
        parts.append(Text(f"replay: {state.replay.done:,} of {state.replay.planned:,} recorded requests {state.replay.message}"))
    parts += _reasons(service, running, source)
    if state.decisions:
        parts.append(_journal(service, now, len(state.decisions) if wide else 6))
    return _apart(parts)


def why(service: AIService, running: bool, source: Source) -> RenderableType:
    """What is so and why: the first condition that a person would ask about, the gates, the whole journal."""
    state = service.status.rollout
    parts: list[RenderableType] = [_head(service, running)]
    parts += _reasons(service, running, source) or [Text(_sentence(service))]
    if state.gates:
        parts.append(_gates(service))
    if state.decisions:
        parts.append(_journal(service, datetime.now(UTC), len(state.decisions)))
    return _apart(parts)


def _apart(parts: Sequence[RenderableType]) -> Group:
    return Group(*[p for part in parts for p in (part, Text(""))][:-1])


def _sentence(service: AIService) -> str:
    """Of a service that is not in trouble."""
    for kind, quiet in (("RolloutHealthy", "True"), ("Reconciling", "False")):
        said = _condition(service, kind)
        if said and said.status != quiet:
            return said.message
    said = _condition(service, "Ready")
    return said.message if said else ""


def _head(service: AIService, running: bool) -> Text:
    state, good = service.status.rollout, ready(service, running)
    head = Text.assemble((service.metadata.name, "bold"), "  ", ("Ready" if good else "Not ready", GOOD if good else BAD))
    head.append("  ")
    step = f" (step {state.step + 1} of {state.steps}, {state.weight} %)" if state.candidate and state.weight else ""
    head.append(f"{state.phase.value}{step}", PHASES.get(state.phase, WAIT))
    if service.status.url:
        head.append(f"  {service.status.url}", "dim")
    return head


def _revisions(service: AIService, now: datetime) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column in ("REVISION", "ROLE", "WEIGHT", "READY", "MODEL", "UNTIL"):
        table.add_column(column, no_wrap=column != "MODEL")
    for r in service.status.revisions:
        colour = {Role.STABLE: GOOD, Role.CANDIDATE: WAIT}.get(r.role, "dim")
        bar = "█" * round(r.weight / 10) + "░" * (10 - round(r.weight / 10))
        until = age(now, r.until) if r.until else ""
        digest = f" {r.digest[:19]}…" if r.digest else ""
        table.add_row(
            Text(r.name, colour),
            r.role.value,
            f"{bar} {r.weight:3d} %",
            f"{r.ready}/{r.replicas}",
            f"{r.template.model.uri}{digest}",
            until,
        )
    return table


def _gates(service: AIService) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column in ("GATE", "STAGE", "VERDICT", "EVIDENCE"):
        table.add_column(column, no_wrap=column != "EVIDENCE")
    for g in service.status.rollout.gates:
        word, colour = VERDICTS[g.verdict]
        table.add_row(g.name, g.stage.value, Text(word, colour), g.message)
    return table


def _reasons(service: AIService, running: bool, source: Source) -> list[RenderableType]:
    if not running:
        return [Text(source.unattended(service.metadata.name), BAD)]
    name, program = service.metadata.name, source.program
    out: list[RenderableType] = []
    said, stalled = _condition(service, "Ready"), _condition(service, "Stalled")
    if said and said.status != "True":
        out.append(Text(said.message, BAD))
    if stalled and stalled.status == "True":
        out.append(Text(stalled.message, WAIT))
        if service.status.rollout.phase in (Phase.REJECTED, Phase.ROLLED_BACK):
            out.append(Text(f"Next: put a better model into the manifest, or {program} retry {name}", "dim"))
    if service.status.rollout.phase in (Phase.HOLDING, Phase.PAUSED):
        out.append(Text(f"Next: wait for more requests, or decide: {program} promote {name} | {program} abort {name}", "dim"))
    return out


def _journal(service: AIService, now: datetime, count: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column in ("AGO", "DECISION", "REVISION", "GATE", "REQUESTS", "WHY"):
        table.add_column(column, no_wrap=column != "WHY", justify="right" if column == "REQUESTS" else "left")
    for d in service.status.rollout.decisions[-count:][::-1]:
        word = Text(d.kind.value, COLOURS.get(d.kind, "cyan"))
        table.add_row(age(d.at, now), word, d.revision, d.gate, f"{d.requests:,}", d.message)
    return table
