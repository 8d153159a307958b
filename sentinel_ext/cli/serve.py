"""`sentinel-ext serve`: the service."""

from __future__ import annotations

import sys


def command() -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Everything is set by environment variables or a `.env` file in this folder; the README has the table.
    Wrong values stop the start with exit code 2, all of them at once.

    Example: `REDIS_URL=redis://localhost:6379 POLICY_FILE=policy.yaml sentinel-ext serve`
    """
    # Imported here: `--help` of other commands does not pay for grpc and protobuf.
    import uvloop  # noqa: PLC0415

    from sentinel_ext.app import Application  # noqa: PLC0415
    from sentinel_ext.policy.sources import load_all  # noqa: PLC0415
    from sentinel_ext.settings import Settings  # noqa: PLC0415
    from sentinel_ext.telemetry.logging import LogWriter, logger  # noqa: PLC0415
    from sentinel_ext.workers import Supervisor  # noqa: PLC0415

    settings = Settings.load()
    policy = load_all(settings)
    logs = LogWriter(settings.log_level, sys.stdout, redact=settings.log_redact or ())
    logs.start()
    try:
        for warning in (*settings.warnings, *policy.warnings):
            logger.warning(warning)
        serving = Application(settings, policy, logs) if settings.workers == 1 else Supervisor(settings)
        uvloop.run(serving.run())
    finally:
        logs.stop()
