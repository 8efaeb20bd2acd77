"""One on every node: lists policies, pods and namespaces, and gives the kernel the ruleset whenever it has changed."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import policies

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATHS = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
PAUSE = float(os.environ.get("PAUSE", "0.5"))


def listed(path: str, trust: ssl.SSLContext) -> list[Any]:
    """From the API server's cache (resourceVersion=0): cheap enough to ask twice a second."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    token = (ACCOUNT / "token").read_text()
    request = urllib.request.Request(f"https://{host}:{port}{path}?resourceVersion=0", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        items: list[Any] = json.load(answer)["items"]
    return items


def main() -> None:
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    current = ""
    while True:
        try:
            rules, pods, namespaces = (listed(path, trust) for path in PATHS)
            wanted = policies.ruleset(rules, pods, namespaces)
            if wanted != current:
                subprocess.run(["nft", "-f", "-"], input=wanted, text=True, check=True)
                current = wanted
                print(f"{wanted.count(' return')} rules", flush=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"will try again: {error}", file=sys.stderr, flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
