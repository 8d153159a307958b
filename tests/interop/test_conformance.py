"""What connect-conformance expects of a gRPC server, said byte by byte; what compression puts on the wire."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from interop import raw

if TYPE_CHECKING:
    from types import SimpleNamespace

UNIMPLEMENTED, RESOURCE_EXHAUSTED, INTERNAL = 12, 8, 13
# The default of every gRPC implementation.
MAX_MESSAGE = 4 * 1024 * 1024
EMPTY_CALL = "/grpc.testing.TestService/EmptyCall"


def test_one_message_is_answered(server: str) -> None:
    answer = raw.call(server, raw.message(b""), path=EMPTY_CALL)

    assert (200, 0) == (answer.http_status, answer.grpc_status)
    assert [(0, b"")] == answer.messages


def test_no_message_to_a_unary_method_is_unimplemented(lean: str) -> None:
    for body in ((), (b"",)):
        answer = raw.call(lean, *body, path=EMPTY_CALL)
        assert (200, UNIMPLEMENTED) == (answer.http_status, answer.grpc_status)


def test_two_messages_to_a_unary_method_are_unimplemented(lean: str) -> None:
    for body in ((raw.message(b"") * 2,), (raw.message(b""), raw.message(b""))):
        answer = raw.call(lean, *body, path=EMPTY_CALL)
        assert (200, UNIMPLEMENTED) == (answer.http_status, answer.grpc_status)
        assert [] == answer.messages


def test_two_messages_to_a_server_stream_are_unimplemented(lean: str) -> None:
    path = "/grpc.testing.TestService/StreamingOutputCall"

    answer = raw.call(lean, raw.message(b"") * 2, path=path)

    assert (200, UNIMPLEMENTED) == (answer.http_status, answer.grpc_status)


@pytest.mark.parametrize("encoding", [None, "identity"])
def test_a_compressed_message_without_encoding_is_internal(server: str, encoding: str | None) -> None:
    packed = raw.message(gzip.compress(b""), flag=1)

    answer = raw.call(server, packed, path=EMPTY_CALL, grpc_encoding=encoding)

    assert INTERNAL == answer.grpc_status


def test_an_unknown_encoding_is_unimplemented_and_told_what_is_known(lean: str) -> None:
    answer = raw.call(lean, raw.message(b"", flag=1), path=EMPTY_CALL, grpc_encoding="br")

    assert UNIMPLEMENTED == answer.grpc_status
    known = {**answer.headers, **answer.trailers}["grpc-accept-encoding"].replace(" ", "").split(",")
    assert {"identity", "gzip"} <= set(known)


def test_garbage_for_gzip_is_internal(server: str) -> None:
    answer = raw.call(server, raw.message(b"not gzip", flag=1), path=EMPTY_CALL, grpc_encoding="gzip")

    assert INTERNAL == answer.grpc_status


@pytest.mark.parametrize("flag", [2, 255])
def test_an_unknown_flag_is_internal(lean: str, flag: int) -> None:
    assert INTERNAL == raw.call(lean, raw.message(b"", flag=flag), path=EMPTY_CALL).grpc_status


def test_a_message_above_the_limit_is_refused_at_its_prefix(server: str) -> None:
    prefix = raw.message(bytes(MAX_MESSAGE + 1))[:100]

    assert RESOURCE_EXHAUSTED == raw.call(server, prefix, path=EMPTY_CALL, end_stream=False).grpc_status


def test_a_message_that_grows_above_the_limit_is_refused(server: str) -> None:
    packed = raw.message(gzip.compress(bytes(MAX_MESSAGE + 1)), flag=1)

    assert RESOURCE_EXHAUSTED == raw.call(server, packed, grpc_encoding="gzip").grpc_status


def test_a_message_cut_off_is_internal(lean: str) -> None:
    for body in (b"\0\0\0", raw.message(bytes(100))[:-1]):
        assert INTERNAL == raw.call(lean, body, path=EMPTY_CALL).grpc_status


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "application/grpc-web", "application/grpcx", "text/plain"]
)
def test_a_wrong_content_type_is_an_unsupported_media_type(lean: str, content_type: str | None) -> None:
    answer = raw.call(lean, raw.message(b""), path=EMPTY_CALL, content_type=content_type)

    assert 415 == answer.http_status


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_every_spelling_of_the_content_type_is_taken(lean: str, content_type: str) -> None:
    assert 0 == raw.call(lean, raw.message(b""), path=EMPTY_CALL, content_type=content_type).grpc_status


@pytest.mark.parametrize("path", ["/grpc.testing.TestService/Nothing", "/no.Service/Call", "/", "/x", "//"])
def test_an_unknown_path_is_unimplemented(server: str, path: str) -> None:
    answer = raw.call(server, raw.message(b""), path=path)

    assert (200, UNIMPLEMENTED) == (answer.http_status, answer.grpc_status)


def test_garbage_for_a_protobuf_is_internal(lean: str) -> None:
    assert INTERNAL == raw.call(lean, raw.message(b"\xff\xff\xff")).grpc_status


# grpc.aio forgets set_compression() on unary calls unless initial metadata is sent by hand.
@pytest.mark.parametrize("compressed", [True, False])
def test_a_response_is_compressed_only_where_the_handler_says_so(
    lean: str, pb: SimpleNamespace, compressed: bool
) -> None:
    request = pb.SimpleRequest(response_size=10_000, response_compressed=pb.BoolValue(value=compressed))

    answer = raw.call(lean, raw.message(request.SerializeToString()), grpc_accept_encoding="identity,gzip")

    (flag, data), *rest = answer.messages
    assert [] == rest
    assert int(compressed) == flag
    assert "gzip" == answer.headers.get("grpc-encoding") or not compressed
    data = gzip.decompress(data) if flag else data
    assert bytes(10_000) == pb.SimpleResponse.FromString(data).payload.body


def test_a_client_that_takes_no_gzip_gets_none(server: str, pb: SimpleNamespace) -> None:
    request = pb.SimpleRequest(response_size=10_000, response_compressed=pb.BoolValue(value=True))

    answer = raw.call(server, raw.message(request.SerializeToString()), grpc_accept_encoding="identity")

    assert [0] == [flag for flag, _ in answer.messages]
    assert 0 == answer.grpc_status


def test_compression_can_be_left_out_message_by_message(server: str, pb: SimpleNamespace) -> None:
    parameters = [
        pb.ResponseParameters(size=1000, compressed=pb.BoolValue(value=compressed))
        for compressed in (True, False, True)
    ]
    request = pb.StreamingOutputCallRequest(response_parameters=parameters)

    answer = raw.call(
        server,
        raw.message(request.SerializeToString()),
        path="/grpc.testing.TestService/StreamingOutputCall",
        grpc_accept_encoding="gzip",
    )

    assert [1, 0, 1] == [flag for flag, _ in answer.messages]


@pytest.mark.parametrize("timeout", ["", "1", "S", "123456789n", "-1S", "1 S", "1x"])
def test_a_broken_timeout_is_a_bad_request(lean: str, timeout: str) -> None:
    answer = raw.call(lean, raw.message(b""), path=EMPTY_CALL, grpc_timeout=timeout)

    assert (400, INTERNAL) == (answer.http_status, answer.grpc_status)


def test_a_timeout_that_is_over_calls_nobody(server: str) -> None:
    answer = raw.call(server, raw.message(b""), path=EMPTY_CALL, grpc_timeout="0n")

    assert 4 == answer.grpc_status
    assert "x-running-handlers" not in answer.trailers
