"""gRPC through grpc.aio, without generated handlers: message bytes in, message bytes out."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
import grpc.aio

from aiservice_predictor import VERSION
from aiservice_predictor.batcher import Waiting
from aiservice_predictor.codec import grpc as codec
from aiservice_predictor.codec.request import Part
from aiservice_predictor.dataplane import DataPlane
from aiservice_predictor.failures import Failure
from aiservice_predictor.proto import messages

_MESSAGE_OVERHEAD = 2**16


class _Call(Waiting):
    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[Part] = asyncio.get_running_loop().create_future()

    def settle(self, part: Part) -> None:
        if not self.answer.done():
            self.answer.set_result(part)

    def fail(self, failure: Failure) -> None:
        if not self.answer.done():
            self.answer.set_exception(failure)


class GrpcService:
    """The methods of inference.GRPCInferenceService."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def handler(self) -> Any:
        """For grpc.aio.Server.add_generic_rpc_handlers."""
        methods: dict[str, Callable[[bytes, Any], Awaitable[bytes]]] = {
            "ServerLive": self._plain(messages.ServerLiveRequest, lambda _: messages.ServerLiveResponse(live=self._plane.live)),
            "ServerReady": self._plain(messages.ServerReadyRequest, lambda _: messages.ServerReadyResponse(ready=self._plane.ready)),
            "ModelReady": self._plain(messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._plain(messages.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": self._plain(messages.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": self._infer,
        }
        return grpc.method_handlers_generic_handler(
            messages.SERVICE, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        )

    async def _infer(self, data: bytes, context: Any) -> bytes:
        plane = self._plane
        start, outcome, failure, answer = perf_counter(), "server_error", None, b""
        plane.open += 1
        try:
            message = codec.parse(messages.ModelInferRequest, data)
            plane.serves(message.model_name)
            request = codec.decode(plane.signature, plane.config.max_rows, message)
            call = _Call()
            plane.enter(call, request, context.time_remaining())
            try:
                part = await call.answer
            finally:
                plane.withdraw(call)
            answer = codec.encode(plane.name, plane.signature, request, part.tensors())
            plane.answered(request, part)
            outcome = "ok"
        except Failure as caught:
            failure, outcome = caught, caught.outcome
        except asyncio.CancelledError:
            left = context.time_remaining()
            outcome = "client_error" if left is None or left > 0 else "timeout"
            raise
        except Exception as error:
            failure = _fault(error)
        finally:
            plane.open -= 1
            plane.last = perf_counter()
            plane.metrics.request("grpc", outcome, plane.last - start)
        if failure is not None:
            await _abort(context, failure)
        return answer

    def _plain(self, request: Any, answer: Callable[[Any], Any]) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def method(data: bytes, context: Any) -> bytes:
            try:
                return bytes(answer(codec.parse(request, data)).SerializeToString())
            except Failure as caught:
                failure = caught
            except Exception as error:
                failure = _fault(error)
            await _abort(context, failure)
            return b""

        return method

    def _model_ready(self, request: Any) -> Any:
        self._plane.serves(request.name)
        return messages.ModelReadyResponse(ready=self._plane.ready)

    def _server_metadata(self, _: Any) -> Any:
        return messages.ServerMetadataResponse(name="aiservice-predictor", version=VERSION, extensions=["binary_tensor_data"])

    def _model_metadata(self, request: Any) -> Any:
        plane = self._plane
        plane.serves(request.name)
        versions = [plane.config.revision] if plane.config.revision else []
        answer = messages.ModelMetadataResponse(name=plane.name, versions=versions, platform="onnxruntime_onnx")
        for spec in plane.signature.inputs.values():
            answer.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in plane.signature.outputs.values():
            answer.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return answer


async def serve(plane: DataPlane, host: str, port: int) -> tuple[Any, int]:
    """Start listening; the server, and the port (chosen by the kernel where `port` is 0)."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", plane.config.max_body + _MESSAGE_OVERHEAD),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers((GrpcService(plane).handler(),))
    bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await server.start()
    return server, bound


async def _abort(context: Any, failure: Failure) -> None:
    await context.abort(getattr(grpc.StatusCode, failure.code), str(failure))


def _fault(error: Exception) -> Failure:
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    return Failure("the predictor failed on this request")
