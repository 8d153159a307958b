"""Names on the command line: `tenants acme` without a verb, and completion from the running service."""

# Without `from __future__ import annotations`: typer reads the signatures of completers.
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

import typer
from typer.core import TyperGroup

from sentinel_ext.errors import SentinelError

if TYPE_CHECKING:
    from collections.abc import Iterable

# A shell waits for this while somebody types.
COMPLETE_WITHIN_S: Final = 0.3
MAX_COMPLETED: Final = 100
SHOW: Final = "show"
# A name stands on the command line once it is completed, and a shell acts on what stands there.
_HARMLESS = re.compile(r"[A-Za-z0-9_.:@/+-]+")


class NameGroup(TyperGroup):
    """A group whose first word may be a name: `tenants acme` is `tenants show acme`."""

    # Completes that name.
    names: ClassVar[Any] = staticmethod(lambda _ctx, _incomplete: [])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  typer keeps click's types to itself
        """Put the verb there that was left out."""
        if args and args[0] not in self.commands:
            args = [SHOW, *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401  likewise
        """Complete verbs and names."""
        from typer.core import CompletionItem  # type: ignore[attr-defined]  # noqa: PLC0415  nowhere in the open

        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            found += [CompletionItem(name) for name in type(self).names(ctx, incomplete)]
        return found


def tenants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a tenant that the service has seen; nothing when it does not answer."""
    answer = _asked(ctx, "ListTenants", {"limit": MAX_COMPLETED, "prefix": incomplete})
    return _harmless((each["tenant"] for each in answer.get("tenants", [])), incomplete)


def upstreams(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete an upstream that the service knows, likewise."""
    answer = _asked(ctx, "GetPressure", {})
    return _harmless((each["upstream"] for each in answer.get("upstreams", [])), incomplete)


def _harmless(names: "Iterable[str]", incomplete: str) -> list[str]:
    found = (name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name))
    return list(islice(found, MAX_COMPLETED))


def group(metavar: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return a command with verbs below it, which does something without one, too."""
    return typer.Typer(
        cls=cls,
        invoke_without_command=True,
        subcommand_metavar=metavar,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


class TenantGroup(NameGroup):
    """Of tenants."""

    names = staticmethod(tenants)


class UpstreamGroup(NameGroup):
    """Of upstreams."""

    names = staticmethod(upstreams)


def _asked(ctx: typer.Context, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    from sentinel_ext.cli._options import parsed_address  # noqa: PLC0415  completing words does not need it
    from sentinel_ext.client.decisions import DecisionClient  # noqa: PLC0415  likewise

    given = next((here.params["address"] for here in _upwards(ctx) if here.params.get("address")), None)
    try:
        # The default rather than settings: a shell does not wait for those.
        address = parsed_address(given or "127.0.0.1:50052", "--address")
        with DecisionClient(address, COMPLETE_WITHIN_S) as client:
            return client.ask(name, fields)
    except (SentinelError, OSError):
        return {}


def _upwards(ctx: Any) -> Any:  # noqa: ANN401  typer's contexts have no type of their own that is public
    while ctx is not None:
        yield ctx
        ctx = ctx.parent
