"""All policies by name, in the order of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim import sentinel
from sim.rivals.curve import Cubic
from sim.rivals.levels import Cinnamon, Dagor
from sim.rivals.limits import Aimd, Gradient2, Gradient2Shares, Vegas
from sim.rivals.rate import StaticRate
from sim.rivals.sidecar import Counting, alone
from sim.rivals.throttle import SreThrottle

if TYPE_CHECKING:
    from sim.policy import Make, World
    from sim.rivals.sidecar import Counting as Sidecar


def _open(_: World) -> Sidecar:
    return Counting()


_RIVALS = {
    "none": _open,
    "static-rate": StaticRate,
    "aimd": Aimd,
    "gradient2": Gradient2,
    "gradient2-shares": Gradient2Shares,
    "vegas": Vegas,
    "sre-throttle": SreThrottle,
    "dagor": Dagor,
    "cinnamon": Cinnamon,
    "cubic": Cubic,
}

POLICIES: dict[str, Make] = {
    **{name: alone(name, sidecar) for name, sidecar in _RIVALS.items()},
    "sentinel": sentinel.make,
}
