"""sentinel.v1.DecisionService, for people, on the debug port: says why, shows state, lets an operator act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from google.protobuf.message import DecodeError

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb
from sentinel_ext.core.breaker import Force
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.ratelimit.outcome import Problem
from sentinel_ext.core.usage import Order
from sentinel_ext.errors import SentinelError
from sentinel_ext.services import decision_messages as messages
from sentinel_ext.services.authorization import CheckCaller
from sentinel_ext.services.ratelimit import parse
from sentinel_ext.services.registry import (
    INTERNAL,
    INVALID_ARGUMENT,
    PEER,
    Answer,
    BadRequestError,
    Cancellable,
    HotStream,
    Refusal,
    RequestError,
    StreamKind,
    Unary,
)
from sentinel_ext.services.sketch import SketchCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from google.protobuf.message import Message

    from sentinel_ext.core.explain.looks import Explanation
    from sentinel_ext.core.explain.who import Who
    from sentinel_ext.core.identify import Caller
    from sentinel_ext.core.policy import Source
    from sentinel_ext.core.ratelimit.explain import LimitsLook
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.views import BreakerView, PressureView, StageView, TenantView
    from sentinel_ext.services.decision_watch import Watching

    # Runs the work beside the requests and replies with what it returns.
    Spawn = Callable[[Coroutine[Any, Any, Answer], Callable[[Answer], bool]], Cancellable]

SERVICE: Final = "sentinel.v1.DecisionService"
DEFAULT_LISTED: Final = 20
MAX_LISTED: Final = 1_000
MAX_NAME_BYTES: Final = 256
_FAULT: Final = Refusal(INTERNAL, "a fault of Sentinel's own; its log has it")
_STAGES: Final = {stage.value: stage for stage in Stage if stage is not Stage.IDENTIFY}
_ORDERS: Final = {order.value: order for order in Order}
_MODES: Final = {"policy": None, **{mode.value: mode for mode in Mode}}
_NO_RULES: Final = "No rate limit configuration is loaded: Envoy's failure_mode_deny decides."
_LOAD_RULES: Final = "Set RATELIMIT_CONFIG_DIR, or write `ratelimit:` into the policy file."


class Explained(Protocol):
    """See explaining.Explained."""

    @property
    def explanation(self) -> Explanation: ...  # noqa: D102
    @property
    def who(self) -> Who: ...  # noqa: D102
    @property
    def stages(self) -> Mapping[Stage, StageView]: ...  # noqa: D102


class ExplainedLimits(Protocol):
    """See explaining.ExplainedLimits."""

    @property
    def looked(self) -> LimitsLook: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...  # noqa: D102


class House(Protocol):
    """What the service asks. Methods raise SentinelErrors, which own their status."""

    instance: str

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the policy in force looks for tenants."""
        ...

    async def explain_check(self, caller: Caller) -> Explained: ...  # noqa: D102
    async def explain_limits(self, query: Query) -> ExplainedLimits | Problem: ...  # noqa: D102
    async def tenant(self, name: str) -> TenantView: ...  # noqa: D102
    async def tenants(self, limit: int, order: Order, prefix: str) -> tuple[list[TenantView], int]: ...  # noqa: D102
    def pressure(self, upstream: str) -> PressureView: ...  # noqa: D102
    def breakers(self, upstream: str) -> list[BreakerView]: ...  # noqa: D102
    async def reset_tenant(self, name: str, peer: str) -> tuple[TenantView, bool]: ...  # noqa: D102
    async def set_breaker(self, upstream: str, mode: Force, peer: str) -> BreakerView: ...  # noqa: D102
    async def set_stage_mode(self, stage: Stage, mode: Mode | None, peer: str) -> list[StageView]: ...  # noqa: D102


class Decisions:
    """The service."""

    def __init__(
        self, house: House, watching: Watching, spawn: Spawn, failed: Callable[[Exception], None]
    ) -> None:
        """Ask `house`; `failed` hears of our own faults."""
        self._house, self._watching = house, watching
        self._spawn, self._failed = spawn, failed

    def methods(self) -> tuple[Unary | HotStream, ...]:
        """Return what a server mounts."""
        unary = (
            ("Explain", pb.ExplainRequest, self._explain),
            ("GetTenant", pb.GetTenantRequest, self._get_tenant),
            ("ListTenants", pb.ListTenantsRequest, self._list_tenants),
            ("GetPressure", pb.GetPressureRequest, self._get_pressure),
            ("ListBreakers", pb.ListBreakersRequest, self._list_breakers),
            ("ResetTenant", pb.ResetTenantRequest, self._reset_tenant),
            ("SetBreaker", pb.SetBreakerRequest, self._set_breaker),
            ("SetStageMode", pb.SetStageModeRequest, self._set_stage_mode),
        )
        watch = HotStream(SERVICE, "WatchDecisions", StreamKind.BIDI, self._watching.open)
        return (*(self._unary(*each) for each in unary), watch)

    def _unary(self, name: str, kind: type[Message], method: Callable[[Any], Awaitable[Message]]) -> Unary:
        def decode(data: bytes) -> Message:
            try:
                return kind.FromString(data)
            except DecodeError as error:
                raise RequestError(f"the request is not a sentinel.v1.{kind.DESCRIPTOR.name}") from error

        def handle(request: Message, reply: Callable[[Answer], bool]) -> Cancellable:
            return self._spawn(self._answer(method, request), reply)

        return Unary(SERVICE, name, decode, handle)

    async def _answer(self, method: Callable[[Any], Awaitable[Message]], request: Message) -> Answer:
        try:
            return (await method(request)).SerializeToString()
        except (BadRequestError, RequestError) as error:
            return Refusal(INVALID_ARGUMENT, str(error))
        except SentinelError as error:
            return Refusal(error.status, str(error))
        except Exception as error:  # noqa: BLE001  our own fault must become a status
            self._failed(error)
            return _FAULT

    async def _explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        house = self._house
        what = request.WhichOneof("what")
        if what is None:
            raise BadRequestError("one of check, rate_limit and request is needed")
        if what == "rate_limit":
            return await self._explain_limits(parse(request.rate_limit.SerializeToString()))
        if what == "check":
            caller: Caller = CheckCaller(request.check)
        else:
            caller = SketchCaller(request.request, house.sources[0])
        found = await house.explain_check(caller)
        return messages.explain_response(found.explanation, found.who, found.stages, house.instance)

    async def _explain_limits(self, query: Query) -> pb.ExplainResponse:
        found = await self._house.explain_limits(query)
        if found is Problem.NO_RULES:
            return pb.ExplainResponse(
                sentence=_NO_RULES, advice=_LOAD_RULES, reason="no_rules", instance=self._house.instance
            )
        if isinstance(found, Problem):
            raise BadRequestError(f"rate_limit: {found.value}")
        return messages.limits_response(found.looked, found.headers, self._house.instance)

    async def _get_tenant(self, request: pb.GetTenantRequest) -> pb.GetTenantResponse:
        view = await self._house.tenant(_name(request.tenant, "tenant"))
        return pb.GetTenantResponse(tenant=messages.tenant_message(view), instance=self._house.instance)

    async def _list_tenants(self, request: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
        limit = request.limit or DEFAULT_LISTED
        if limit > MAX_LISTED:
            raise BadRequestError(f"limit: at most {MAX_LISTED}")
        order = _word(request.order_by or Order.RATE.value, _ORDERS, "order_by")
        if len(request.prefix) > MAX_NAME_BYTES:
            raise BadRequestError(f"prefix: at most {MAX_NAME_BYTES} characters")
        views, total = await self._house.tenants(limit, order, request.prefix)
        shown = [messages.tenant_message(view) for view in views]
        return pb.ListTenantsResponse(tenants=shown, total=total, instance=self._house.instance)

    async def _get_pressure(self, request: pb.GetPressureRequest) -> pb.GetPressureResponse:
        return messages.pressure_response(self._house.pressure(request.upstream), self._house.instance)

    async def _list_breakers(self, request: pb.ListBreakersRequest) -> pb.ListBreakersResponse:
        shown = messages.breakers_message(self._house.breakers(request.upstream))
        return pb.ListBreakersResponse(breakers=shown, instance=self._house.instance)

    async def _reset_tenant(self, request: pb.ResetTenantRequest) -> pb.ResetTenantResponse:
        view, had_used = await self._house.reset_tenant(_name(request.tenant, "tenant"), PEER.get()())
        shown = messages.tenant_message(view)
        return pb.ResetTenantResponse(tenant=shown, had_used=had_used, instance=self._house.instance)

    async def _set_breaker(self, request: pb.SetBreakerRequest) -> pb.SetBreakerResponse:
        mode = _word(request.mode, {force.value: force for force in Force}, "mode")
        name = _name(request.upstream, "upstream")
        view = await self._house.set_breaker(name, mode, PEER.get()())
        (breaker,) = messages.breakers_message([view])
        return pb.SetBreakerResponse(breaker=breaker, instance=self._house.instance)

    async def _set_stage_mode(self, request: pb.SetStageModeRequest) -> pb.SetStageModeResponse:
        stage, mode = _word(request.stage, _STAGES, "stage"), _word(request.mode, _MODES, "mode")
        views = await self._house.set_stage_mode(stage, mode, PEER.get()())
        stages = [
            pb.StageState(
                stage=view.stage.value,
                mode=view.mode.value,
                policy_mode=view.policy_mode.value,
                is_mode_set=view.is_set,
            )
            for view in views
        ]
        return pb.SetStageModeResponse(stages=stages, instance=self._house.instance)


def _name(text: str, field: str) -> str:
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or not text.isprintable():
        raise BadRequestError(f"{field}: a name of 1 to {MAX_NAME_BYTES} bytes of printable text")
    return text


def _word(text: str, words: dict[str, Any], field: str) -> Any:  # noqa: ANN401  whatever the words mean
    if text not in words:
        raise BadRequestError(f"{field}: got {text[:40]!r}, allowed: {', '.join(words)}")
    return words[text]
