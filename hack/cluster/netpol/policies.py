"""NetworkPolicies as an nftables ruleset: pure, from what the API server lists to text.

A pod that some policy of a direction selects is isolated in that direction: what no rule returns from the chain is dropped.
Answers of accepted connections always pass, and so does what comes from the node itself (kubelet's probes): it is never forwarded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """A LabelSelector on labels; the empty one matches everything."""
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(condition, labels) for condition in selector.get("matchExpressions") or ())


def _holds(condition: Object, labels: Mapping[str, str]) -> bool:
    name, operator, values = condition["key"], condition["operator"], condition.get("values") or ()
    if operator == "In":
        return labels.get(name) in values and name in labels
    if operator == "NotIn":
        return name not in labels or labels[name] not in values
    present = name in labels
    return present if operator == "Exists" else not present


def _labels(item: Object) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def running(pods: Iterable[Object]) -> list[Object]:
    """Pods with an address of their own."""
    ended = ("Succeeded", "Failed")
    return [
        pod for pod in pods if pod["status"].get("podIP") and not pod["spec"].get("hostNetwork") and pod["status"].get("phase") not in ended
    ]


def ruleset(policies: Sequence[Object], pods: Sequence[Object], namespaces: Sequence[Object], table: str = "netpol") -> str:
    """The whole table, replaced in one transaction."""
    alive = running(pods)
    spaces = {space["metadata"]["name"]: _labels(space) for space in namespaces}
    isolated: dict[str, set[str]] = {"Ingress": set(), "Egress": set()}
    rules: dict[str, list[str]] = {"Ingress": [], "Egress": []}
    for policy in policies:
        spec, home = policy["spec"], policy["metadata"]["namespace"]
        chosen = [pod for pod in alive if pod["metadata"]["namespace"] == home and matches(spec.get("podSelector") or {}, _labels(pod))]
        if not chosen:
            continue
        for direction in spec.get("policyTypes") or ["Ingress"]:
            isolated[direction] |= {pod["status"]["podIP"] for pod in chosen}
            for rule in spec.get(direction.lower()) or ():
                rules[direction] += _rule(direction, rule, chosen, alive, spaces, home)
    lines = [f"table ip {table}", f"delete table ip {table}", f"table ip {table} {{"]
    for direction in rules:
        lines += [f"  chain {direction.lower()} {{", *(f"    {line}" for line in rules[direction]), "    drop", "  }"]
    lines += [
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        "    ct state established,related accept",
    ]
    for direction, side in (("Ingress", "daddr"), ("Egress", "saddr")):
        if isolated[direction]:
            lines.append(f"    ip {side} {_set(isolated[direction])} jump {direction.lower()}")
    return "\n".join([*lines, "  }", "}", ""])


def _rule(
    direction: str, rule: Object, chosen: Sequence[Object], alive: Sequence[Object], spaces: Mapping[str, Mapping[str, str]], home: str
) -> list[str]:
    """One rule of a policy: who (peers) may use what (ports) of the chosen pods, or by them."""
    inward = direction == "Ingress"
    mine, theirs = ("daddr", "saddr") if inward else ("saddr", "daddr")
    peers = rule.get("from" if inward else "to")
    own = f"ip {mine} {_set(pod['status']['podIP'] for pod in chosen)}"
    lines: list[str] = []
    for who, members in _peers(peers, alive, spaces, home, theirs):
        targets = chosen if inward else members
        for target, port in _ports(rule.get("ports"), targets, inward):
            mine_too = f"ip daddr {target}" if target and inward else own
            whose = f"ip daddr {target}" if target and not inward else who
            lines.append(" ".join(part for part in (mine_too, whose, port, "return") if part))
    return lines


def _peers(
    peers: Sequence[Object] | None, alive: Sequence[Object], spaces: Mapping[str, Mapping[str, str]], home: str, side: str
) -> list[tuple[str, Sequence[Object]]]:
    """Each peer as an nftables match and the pods behind it; no peers at all means everyone."""
    if not peers:
        return [("", alive)]
    found: list[tuple[str, Sequence[Object]]] = []
    for peer in peers:
        block = peer.get("ipBlock")
        if block and ":" in block["cidr"]:
            continue  # the cluster speaks IPv4 only
        if block:
            holes = f" ip {side} != {_set(block['except'])}" if block.get("except") else ""
            found.append((f"ip {side} {block['cidr']}{holes}", ()))
            continue
        members = [pod for pod in alive if _is_peer(peer, pod, spaces, home)]
        if members:
            found.append((f"ip {side} {_set(pod['status']['podIP'] for pod in members)}", members))
    return found


def _is_peer(peer: Object, pod: Object, spaces: Mapping[str, Mapping[str, str]], home: str) -> bool:
    space = pod["metadata"]["namespace"]
    outside = peer.get("namespaceSelector")
    near = space == home if outside is None else matches(outside, spaces.get(space, {}))
    return near and matches(peer.get("podSelector") or {}, _labels(pod))


def _ports(ports: Sequence[Object] | None, targets: Sequence[Object], inward: bool) -> list[tuple[str, str]]:
    """Each port as (address of the pod it belongs to, or empty; match). A named port is looked up in every target pod."""
    if not ports:
        return [("", "")]
    found: list[tuple[str, str]] = []
    for port in ports:
        protocol, number = str(port.get("protocol", "TCP")).lower(), port.get("port")
        if number is None:
            found.append(("", f"meta l4proto {protocol}"))
        elif isinstance(number, int):
            last = f"-{port['endPort']}" if port.get("endPort") else ""
            found.append(("", f"{protocol} dport {number}{last}"))
        else:
            for pod in targets:
                found += [(pod["status"]["podIP"], f"{protocol} dport {real}") for real in _named(pod, str(number), protocol)]
    return found


def _named(pod: Object, name: str, protocol: str) -> list[int]:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return [port["containerPort"] for port in ports if port.get("name") == name and str(port.get("protocol", "TCP")).lower() == protocol]


def _set(addresses: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(set(addresses))) + " }"
