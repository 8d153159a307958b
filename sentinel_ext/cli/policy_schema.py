"""`sentinel-ext policy-schema`: the JSON Schema of the policy file."""

from __future__ import annotations

import typer


def command() -> None:
    """Print the JSON Schema of the policy file, for editors and checks.

    Example: `sentinel-ext policy-schema > policy.schema.json`, and on top of the policy file

    `# yaml-language-server: $schema=policy.schema.json`

    so that an editor with a YAML language server completes keys and marks mistakes.
    """
    from sentinel_ext.policy.schema import json_schema_text  # noqa: PLC0415  other commands do not pay for it

    typer.echo(json_schema_text(), nl=False)
