"""Whether OpenTelemetry's SDK can work: as it is installed, and with what its own variables say.

xds-protos brings old messages of OpenTelemetry under the same paths. Which of the two wheels was unpacked
last decides; pip unpacks xds-protos last.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

from sentinel_ext.errors import SentinelError, SettingsError, StartError
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

REPAIR: Final = "pip install --force-reinstall --no-deps opentelemetry-proto"
_MAX_WHY: Final = 300


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


@contextmanager
def sdk_settings() -> Iterator[None]:
    """Import and make what the SDK offers in here: it reads its variables itself, and raises what it likes.

    Raises:
        SettingsError: it cannot be made as the environment says; names the variables that may be why.
    """
    try:
        yield
    except SentinelError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        given = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251  the SDK reads them past Settings
            if name.startswith("OTEL_") and value
        }
        named = [name for name, value in given.items() if name in why or (len(value) > 1 and value in why)]
        names = " or ".join(sorted(named or given)) or "ENABLE_TRACING"
        text = printable(Redactor().text(why))[:_MAX_WHY]
        raise SettingsError([f"{names}: OpenTelemetry's SDK refuses it: {text}"]) from error
