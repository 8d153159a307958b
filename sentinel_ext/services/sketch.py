"""A request in a few words, as people type it → the caller that the policy looks at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sentinel_ext.core.policy import Source, SourceKind
from sentinel_ext.services.registry import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb
    from sentinel_ext.core.tracecontext import Fields

MAX_PATH_BYTES: Final = 8 * 1024
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8 * 1024
_METHOD = re.compile(r"[A-Za-z][A-Za-z-]{0,31}")
_PATH = re.compile(r"/[!-~]*")  # RFC 9112 §3.2: no space, no control character
_NAME = re.compile(r":?[a-z0-9!#$%&'*+.^_`|~-]{1,256}")  # RFC 9110 §5.1, in lower case as HTTP/2 has it


class SketchCaller:
    """A RequestSketch seen as core.identify.Caller: the tenant stands where the policy looks first."""

    carried: Fields = ()  # nobody's trace

    def __init__(self, sketch: pb.RequestSketch, source: Source) -> None:
        """Read `sketch`.

        Raises:
            BadRequestError: a part is not what it should be; it says which.
        """
        _check(sketch)
        self._source, self._tenant = source, sketch.tenant
        headers = {":method": (sketch.method or "GET").upper(), ":path": sketch.path or "/", **sketch.headers}
        extensions = {"upstream": sketch.upstream} if sketch.upstream else {}
        if source.kind is SourceKind.HEADER and sketch.tenant:
            headers[source.name] = sketch.tenant
        elif source.kind is SourceKind.CONTEXT_EXTENSION and sketch.tenant:
            extensions[source.name] = sketch.tenant
        self.headers: Mapping[str, str] = headers
        self.context_extensions: Mapping[str, str] = extensions

    @property
    def principal(self) -> str:
        """The tenant, if that is where the policy looks first."""
        return self._tenant if self._source.kind is SourceKind.PRINCIPAL else ""

    def claim(self, payload: str, name: str) -> str:
        """Likewise."""
        source = self._source
        is_it = source.kind is SourceKind.JWT_CLAIM and (payload, name) == (source.payload, source.name)
        return self._tenant if is_it else ""


def _check(sketch: pb.RequestSketch) -> None:
    if sketch.method and not _METHOD.fullmatch(sketch.method):
        raise BadRequestError("request.method: letters only, as in GET")
    path = sketch.path
    if path and (len(path) > MAX_PATH_BYTES or not _PATH.fullmatch(path)):
        what = f"begins with /, has no spaces or control characters and at most {MAX_PATH_BYTES} bytes"
        raise BadRequestError(f"request.path: a path {what}; escape others as %20")
    if len(sketch.headers) > MAX_HEADERS:
        raise BadRequestError(f"request.headers: at most {MAX_HEADERS}")
    for name, value in sketch.headers.items():
        if not _NAME.fullmatch(name):
            raise BadRequestError("request.headers: names are header names in lower case, as x-tenant-id")
        if len(value) > MAX_HEADER_BYTES:
            raise BadRequestError(f"request.headers: a value has at most {MAX_HEADER_BYTES} characters")
