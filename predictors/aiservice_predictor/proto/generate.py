"""Make open_inference.binpb from open_inference.proto: `python -m aiservice_predictor.proto.generate`. Needs grpcio-tools (development only)."""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "open_inference.proto"
TARGET = HERE / "open_inference.binpb"


def generated() -> bytes:
    """The FileDescriptorProto of the .proto file, serialized."""
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        include = resources.files("grpc_tools") / "_proto"
        if protoc.main(["protoc", f"-I{HERE}", f"-I{include}", f"--descriptor_set_out={out}", SOURCE.name]) != 0:
            raise SystemExit(f"protoc refused {SOURCE}")
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return bytes(files.file[0].SerializeToString(deterministic=True))


if __name__ == "__main__":
    TARGET.write_bytes(generated())
