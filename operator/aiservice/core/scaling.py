"""What the number of predictors follows, and why it may not."""

from __future__ import annotations

from collections.abc import Mapping

from aiservice.api.spec import RESOURCES, RealTime, Scaling, ScalingMetric
from aiservice.core.world import Place

HOW = {
    ScalingMetric.CPU: "{} % of the requested CPU",
    ScalingMetric.MEMORY: "{} % of the requested memory",
    ScalingMetric.CONCURRENCY: "{} requests at a time for each",
    ScalingMetric.REQUESTS_PER_SECOND: "{} requests a second for each",
    ScalingMetric.QUERY: "{} of the query's result for each",
}


def lacking(asked: Scaling, place: Place) -> str:
    """What is not there and would be needed, with the way to get it; empty if nothing is."""
    if asked.metric in RESOURCES:
        return ""
    if not place.keda:
        return "KEDA is not installed: install it (https://keda.sh), or follow Cpu or Memory"
    if asked.metric is ScalingMetric.QUERY and not place.prometheus:
        return "no Prometheus is named: set the chart's prometheus.url (on one machine AISERVICE_PROMETHEUS)"
    return ""


def words(asked: RealTime, place: Place, unscaled: Mapping[str, str], stable: str | None) -> tuple[bool, str, str]:
    """The condition ScalingReady: whether it is as asked, in a word, in a sentence."""
    replicas, scaling = asked.replicas, asked.scaling
    if replicas.min == replicas.max:
        return True, "Fixed", f"always {replicas.min}, for replicas.min is replicas.max"
    bounds = f"{replicas.min} to {replicas.max} predictors"
    lack = lacking(scaling, place)
    if lack:
        return False, "RequirementMissing", f"{scaling.metric} cannot be followed: {lack}; {bounds} follow the CPU meanwhile"
    if stable is not None and stable in unscaled:
        return False, "NoNumbers", f"{stable} stays as it is, for its autoscaler does not act: {unscaled[stable]}"
    return True, "Following", f"{bounds} follow {HOW[scaling.metric].format(scaling.aim)}"
