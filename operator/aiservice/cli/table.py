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


def overview(services: Sequence[tuple[AIService, bool]]) -> Table:
    """One line a service, as `kubectl get ais` prints it."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("NAME", "READY", "STABLE", "CANARY", "WEIGHT", "PHASE", "URL"):
        table.add_column(column, no_wrap=True)
    for service, running in services:
        state, said = service.status.rollout, _condition(service, "Ready")
        table.add_row(
            service.metadata.name,
            (said.status if said else "Unknown") if running else "Unknown",
            state.stable or "",
            state.candidate or "",
            f"{state.weight}" if state.candidate else "",
            state.phase.value if running else "NotRunning",
            service.status.url or "",
        )
    return table


def watched(service: AIService, running: bool, *, wide: bool = False) -> RenderableType:
    """One service, whole."""
    now = datetime.now(UTC)
    state = service.status.rollout
    parts: list[RenderableType] = [_head(service, running), _revisions(service, now)]
    if state.gates:
        parts.append(_gates(service))
    if state.replay and not state.weight and state.candidate:
        parts.append(Text(f"replay: {state.replay.done:,} of {state.replay.planned:,} recorded requests {state.replay.message}"))
    parts += _reasons(service, running)
    if state.decisions:
        parts.append(_journal(service, now, len(state.decisions) if wide else 6))
    return Group(*[p for part in parts for p in (part, Text(""))][:-1])


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


def _reasons(service: AIService, running: bool) -> list[RenderableType]:
    if not running:
        return [
            Text(
                f"Nobody looks after it now. Start: aiservice up -f FILE (its predictors may still run; to end them: aiservice down {service.metadata.name})",
                BAD,
            )
        ]
    out: list[RenderableType] = []
    said, stalled = _condition(service, "Ready"), _condition(service, "Stalled")
    if said and said.status != "True":
        out.append(Text(said.message, BAD))
    if stalled and stalled.status == "True":
        out.append(Text(stalled.message, WAIT))
        if service.status.rollout.phase in (Phase.REJECTED, Phase.ROLLED_BACK):
            out.append(Text(f"Next: put a better model into the manifest, or aiservice retry {service.metadata.name}", "dim"))
    if service.status.rollout.phase in (Phase.HOLDING, Phase.PAUSED):
        name = service.metadata.name
        out.append(Text(f"Next: wait for more requests, or decide: aiservice promote {name} | aiservice abort {name}", "dim"))
    return out


def _journal(service: AIService, now: datetime, count: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column in ("AGO", "DECISION", "REVISION", "GATE", "REQUESTS", "WHY"):
        table.add_column(column, no_wrap=column != "WHY", justify="right" if column == "REQUESTS" else "left")
    for d in service.status.rollout.decisions[-count:][::-1]:
        word = Text(d.kind.value, COLOURS.get(d.kind, "cyan"))
        table.add_row(age(d.at, now), word, d.revision, d.gate, f"{d.requests:,}", d.message)
    return table
