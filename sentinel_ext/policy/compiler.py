"""Models of the file → the compiled policy that decisions read."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sentinel_ext.core.model import FailureMode, Mode, Plan, Stage, Tier
from sentinel_ext.core.policy import Pattern, Policy, Source, SourceKind
from sentinel_ext.policy.contracts import check_contracts, contract_of
from sentinel_ext.policy.findings import Findings
from sentinel_ext.policy.kinds import UNLIMITED
from sentinel_ext.policy.schema import SOURCE_KINDS, PlanSpec, PolicyFile, SourceSpec, StagesSpec, TenantSpec
from sentinel_ext.policy.upstreams import compile_upstreams
from sentinel_ext.wording import did_you_mean, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentinel_ext.core.policy import PlanDefaults

# A tenant is matched against them one by one when it is first seen: 1000 take about 0.3 ms.
MAX_PATTERNS = 1_000
DEFAULT_PLAN = "default"
_MAX_LISTED = 10


def compile_policy(file: PolicyFile, defaults: PlanDefaults, tenant_header: str) -> tuple[Policy, Findings]:
    """Compile a checked file.

    Args:
        file: what the file says.
        defaults: numbers of plans that leave them out.
        tenant_header: where tenants are named if the file has no `identify`; lower case.

    Returns:
        the policy, without its warnings, and what was found; with any problem the policy is of no use.
    """
    compiler = _Compiler(file, defaults)
    specs = file.upstreams or {}
    upstreams, default_upstream = compile_upstreams(specs, defaults.upstream, compiler.findings)
    default_plan, patterns = compiler.default_plan(), compiler.patterns()
    # Not `plans`: the environment's is among them also where nobody has it.
    given = chain((default_plan,), (pattern.plan for pattern in patterns), compiler.tenants.values())
    policy = Policy(
        plans=compiler.plans,
        default_plan=default_plan,
        tenants=compiler.tenants,
        patterns=patterns,
        sources=_sources(file.identify, tenant_header),
        modes=_modes(file.stages),
        upstreams=upstreams,
        default_upstream=default_upstream,
        # Here and not when readiness is asked for: 100,000 tenants take 20 ms.
        needs_store=all(plan.on_store_failure is FailureMode.CLOSED for plan in given),
    )
    if not compiler.findings.problems:
        # A plan that is unknown or wrong would make a sum that nobody could explain.
        compiler.check_contracts()
    return policy, compiler.findings


class _Compiler:
    """Resolves names of plans and fills in what plans leave out.

    Attributes:
        plans: by name; a plan made for a tenant joins under the tenant's key unless a plan has that name.
        tenants: those without a star, by name.
        findings: problems met so far.
    """

    def __init__(self, file: PolicyFile, defaults: PlanDefaults) -> None:
        self._file = file
        self._defaults = defaults
        # The plan of the environment exists whether or not the file has one called "default".
        self._specs = {DEFAULT_PLAN: PlanSpec()}
        self._specs |= {name: spec or PlanSpec() for name, spec in (file.plans or {}).items()}
        self.findings = Findings()
        self.plans = {name: self._plan(("plans", name), spec) for name, spec in self._specs.items()}
        self._by_key = {key: self._tenant(key, spec) for key, spec in (file.tenants or {}).items()}
        self.tenants = {key: plan for key, plan in self._by_key.items() if "*" not in key}

    def default_plan(self) -> Plan:
        name = self._file.default_plan or DEFAULT_PLAN
        return self.plans[self._known(name, ("default_plan",))]

    def patterns(self) -> tuple[Pattern, ...]:
        found = [Pattern(key, plan) for key, plan in self._by_key.items() if "*" in key]
        if len(found) > MAX_PATTERNS:
            message = f"at most {MAX_PATTERNS} patterns with * are allowed (got {len(found)})"
            self.findings.wrong(("tenants",), message)
        # Sorting is stable: ties stay in the order of the file.
        return tuple(sorted(found, key=lambda pattern: pattern.text.count("*") - len(pattern.text)))

    def check_contracts(self) -> None:
        """Hold what plans guarantee against what upstreams were planned for."""
        named = self._file.default_plan
        path = ("default_plan",) if named else ("plans", DEFAULT_PLAN, "guaranteed")
        check_contracts(
            self._by_key, (path, self.plans[named or DEFAULT_PLAN]), self._file.upstreams or {}, self.findings
        )

    def _plan(self, path: tuple[str, str], *specs: PlanSpec) -> Plan:
        plan = _plan(path[1], self._defaults, *specs)
        contract = contract_of(plan, path, specs, self.findings)
        return replace(plan, guaranteed_per_s=contract) if contract else plan

    def _tenant(self, key: str, tenant: TenantSpec) -> Plan:
        base = None if tenant.plan is None else self._known(tenant.plan, ("tenants", key, "plan"))
        if base is not None and tenant.model_fields_set == {"plan"}:
            return self.plans[base]
        specs = (tenant,) if base is None else (tenant, self._specs[base])
        plan = self._plan(("tenants", key), *specs)
        self.plans.setdefault(key, plan)
        return plan

    def _known(self, name: str, path: tuple[str, ...]) -> str:
        if name in self._specs:
            return name
        guess = did_you_mean(name, self._specs)
        if not guess:
            names = [quoted(known) for known in self._specs]
            more = ["…"] if len(names) > _MAX_LISTED else []
            guess = f"there are {listed(names[:_MAX_LISTED] + more, 'and')}"
        self.findings.wrong(path, f"no plan is called {quoted(name)}; {guess}")
        return DEFAULT_PLAN


def _plan(name: str, defaults: PlanDefaults, *specs: PlanSpec) -> Plan:
    """Make a plan without its contract; of `specs` the first that has a value gives it."""

    def given(field: str) -> Any:  # noqa: ANN401 - the models have checked each field's type
        return next((value for spec in specs if (value := getattr(spec, field)) is not None), None)

    def number(field: str, default: int | None) -> int | None:
        value = given(field)
        return default if value is None else None if value == UNLIMITED else int(value)

    tier = Tier(given("tier") or Tier.STANDARD)
    failure_mode = FailureMode.OPEN if tier is Tier.VITAL else FailureMode.LOCAL
    return Plan(
        name=name,
        tier=tier,
        limit=number("limit", defaults.limit),
        window_us=number("window", defaults.window_us) or defaults.window_us,
        burst=number("burst", defaults.burst),
        refill_nano=number("refill", defaults.refill_nano) or 0,
        on_store_failure=FailureMode(given("on_store_failure") or failure_mode),
        weight=int(given("weight") or 1),
    )


def _sources(specs: Iterable[SourceSpec] | None, tenant_header: str) -> tuple[Source, ...]:
    if specs is None:
        return (Source(SourceKind.HEADER, tenant_header),)
    return tuple(map(_source, specs))


def _source(spec: SourceSpec) -> Source:
    kind = next(SourceKind(kind) for kind in SOURCE_KINDS if getattr(spec, kind) is not None)
    if kind is SourceKind.PRINCIPAL:
        return Source(kind)
    name = str(getattr(spec, kind))
    return Source(kind, name, spec.payload) if spec.payload else Source(kind, name)


def _modes(stages: StagesSpec | None) -> dict[Stage, Mode]:
    given = stages.model_dump(exclude_none=True) if stages else {}
    return {Stage(stage): Mode(mode) for stage, mode in given.items() if mode != Mode.ENFORCE}
