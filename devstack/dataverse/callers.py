"""Who a call is from, for whom, and what it asks to be passed over: the headers of callers and of bypassing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from devstack.dataverse import system
from devstack.dataverse.columns import guid
from devstack.dataverse.errors import InvalidArgument, NotAMember
from devstack.dataverse.metadata import Metadata
from devstack.dataverse.records import Origin
from devstack.dataverse.rows import Store
from devstack.dataverse.wire import Call

MAX_BYPASSED: Final = 3
"""Steps that one request may name to be passed over."""
_MODES: Final = {"CustomSync": system.SYNCHRONOUS, "CustomAsync": system.ASYNCHRONOUS}
UNSETTLED: Final = (
    "MSCRM.BypassBusinessLogicExecutionStepIds does not reach steps of service endpoints (switch `bypass_steps`).",
    "Who acts for a user needs no privilege; UserId is that user's, InitiatingUserId the caller's, WhoAmI tells the user's.",
)
"""What no page settles, and how it is here."""

_BYPASS: Final = "mscrm.bypass"


class Callers:
    """Reads who a call is from, inside the call's transaction."""

    def __init__(self, metadata: Metadata, store: Store, *, bypass_steps: bool) -> None:
        """`bypass_steps` says whether single steps may be passed over by their ids."""
        self._metadata = metadata
        self._store = store
        self._bypass_steps = bypass_steps

    def origin(self, call: Call) -> Origin:
        """Read who asks, for whom, and which steps are to be passed over; raises DataverseError."""
        bypassed = (
            self._bypassed(call.headers) if any(name.startswith(_BYPASS) for name in call.headers) else frozenset()
        )
        return Origin(call.options.get("tag"), call.correlation, bypassed, self.user(call), call.changeset)

    def _bypassed(self, headers: Mapping[str, str]) -> frozenset[int | str]:
        """Read the modes and ids of the steps to be passed over."""
        said = _words(headers, "mscrm.bypassbusinesslogicexecution")
        if headers.get("mscrm.bypasscustompluginexecution", "").lower() == "true":
            said.append("CustomSync")
        if unknown := sorted(set(said) - _MODES.keys()):
            raise InvalidArgument(f"MSCRM.BypassBusinessLogicExecution: '{unknown[0]}' (valid: {', '.join(_MODES)})")
        steps = _words(headers, "mscrm.bypassbusinesslogicexecutionstepids")
        if len(steps) > MAX_BYPASSED:
            raise InvalidArgument(f"MSCRM.BypassBusinessLogicExecutionStepIds: more than {MAX_BYPASSED} steps.")
        modes: set[int | str] = {_MODES[each] for each in said}
        return frozenset(modes | ({guid(each) or each for each in steps} if self._bypass_steps else set()))

    def user(self, call: Call) -> str:
        """Find the user that a call is made for; raises NotAMember. Privileges to do so are not emulated."""
        users = self._metadata.tables["systemuser"]
        for header, column in (("callerobjectid", "azureactivedirectoryobjectid"), ("mscrmcallerid", "systemuserid")):
            if header in call.headers:
                asked = guid(call.headers[header])
                row = self._store.find(users, {column: asked}, "systemuserid", "isdisabled") if asked else None
                if row is None or row["isdisabled"]:
                    raise NotAMember
                return str(row["systemuserid"])
        return system.USER


def _words(headers: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in headers.get(name, "").split(",") if part.strip()]
