"""Triton's gRPC client beside kserve's in one process: their messages have the same names, and one descriptor pool cannot hold both."""

from unittest import mock

from google.protobuf import descriptor_pool

with mock.patch.object(descriptor_pool, "Default", return_value=descriptor_pool.DescriptorPool()):
    import tritonclient.grpc as triton

__all__ = ["triton"]
