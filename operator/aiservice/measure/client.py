"""A predictor as the controller sees it: inference with the service's token, the private endpoints, the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp

from aiservice.api.bundle import Decision, Golden, GoldenRequest, ReferenceRow
from aiservice.api.runtime import GOLDEN_PATH, LABELS_PATH, REFERENCE_PATH, REPLAY_HEADER, RESERVOIR_PATH, Labels, LabelsMatched, Reservoir

UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    """HTTP status; 0 if there was none."""
    body: Any = None
    """Parsed JSON."""

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def decisions(self) -> list[str]:
        """One a row, as the predictor decides."""
        return list(self.body.get("parameters", {}).get("decisions", ())) if self.ok else []

    @property
    def error(self) -> str:
        return str(self.body.get("error", "")) if isinstance(self.body, dict) else ""


@dataclass(frozen=True, slots=True)
class Predictor:
    """One running predictor of a revision."""

    revision: str
    url: str
    model: str
    token: str
    session: aiohttp.ClientSession

    async def ready(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/v2/models/{self.model}/ready") as answer:
                return answer.status == 200
        except UNREACHABLE:
            return False

    async def infer(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]] | None = None) -> Answer:
        """One request that is neither counted nor recorded. Never raises for what the predictor does."""
        body: dict[str, Any] = {"inputs": inputs} | ({"outputs": outputs} if outputs else {})
        try:
            async with self.session.post(
                f"{self.url}/v2/models/{self.model}/infer", json=body, headers={REPLAY_HEADER: self.token}
            ) as answer:
                return Answer(answer.status, await answer.json(content_type=None))
        except (*UNREACHABLE, ValueError):
            return Answer(0)

    async def golden(self) -> tuple[list[GoldenRequest], Golden]:
        body = await self._get(GOLDEN_PATH)
        return [GoldenRequest.model_validate(r) for r in body["requests"]], Golden.model_validate(body["golden"])

    async def reference(self) -> tuple[list[ReferenceRow], Decision]:
        body = await self._get(REFERENCE_PATH)
        return [ReferenceRow.model_validate(r) for r in body["rows"]], _decision(body["decision"])

    async def reservoir(self, limit: int, labelled_after: int | None = None) -> Reservoir:
        query = f"?limit={limit}" + (f"&labelledAfter={labelled_after}" if labelled_after is not None else "")
        async with self.session.get(f"{self.url}{RESERVOIR_PATH}{query}", headers=self._bearer()) as answer:
            answer.raise_for_status()
            return Reservoir.model_validate_json(await answer.read())

    async def label(self, labels: dict[str, str]) -> list[str]:
        """Which of the ids it still had."""
        body = Labels(labels=labels).model_dump_json(by_alias=True)
        async with self.session.post(f"{self.url}{LABELS_PATH}", data=body, headers=self._bearer()) as answer:
            answer.raise_for_status()
            return LabelsMatched.model_validate_json(await answer.read()).matched

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics") as answer:
            answer.raise_for_status()
            return await answer.text()

    async def metadata(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/v2/models/{self.model}") as answer:
            answer.raise_for_status()
            body: dict[str, Any] = await answer.json(content_type=None)
            return body

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def _get(self, path: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}{path}", headers=self._bearer()) as answer:
            answer.raise_for_status()
            body: dict[str, Any] = await answer.json(content_type=None)
            return body


def _decision(body: dict[str, Any]) -> Decision:
    return Decision.model_validate(body, strict=False)
