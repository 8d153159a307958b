"""Whether OpenTelemetry's own messages are installed: xds-protos brings old ones under the same paths.

Which of the two wheels was unpacked last decides; pip unpacks xds-protos last.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from sentinel_ext.errors import StartError

REPAIR: Final = "pip install --force-reinstall --no-deps opentelemetry-proto"


def ensure_intact() -> None:
    """Look before the exporters are imported.

    Raises:
        StartError: they would not import; says how to mend it.
    """
    try:
        found = import_module("opentelemetry.proto.common.v1.common_pb2")
    except (ImportError, TypeError):  # TypeError: protobuf of a file that does not fit the others
        found = None
    if not hasattr(found, "InstrumentationScope"):
        raise StartError(
            f"ENABLE_TRACING: xds-protos has overwritten opentelemetry-proto; run `{REPAIR}`, "
            "which costs xds-protos nothing, and start again"
        )
