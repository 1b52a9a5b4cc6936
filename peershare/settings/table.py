"""All settings, in sections, one for each feature.

The command-line options, the variables and docs/settings.md are made of this table. It is read in `server`,
`cli` and `asgi` alone; all others are handed small values of their own.
"""

import attrs

from peershare.settings.access import DEVELOPMENT_ORIGINS, Access
from peershare.settings.accounts import Accounts
from peershare.settings.calls import Calls
from peershare.settings.groups import Groups
from peershare.settings.limits import Limits
from peershare.settings.listening import Listening
from peershare.settings.operation import Operation
from peershare.settings.peerjs import Peerjs
from peershare.settings.sessions import Sessions
from peershare.settings.single_sign_on import SingleSignOn
from peershare.settings.storage import Storage
from peershare.settings.turn import Turn


@attrs.frozen(slots=False)
class Settings(
    Peerjs,
    Turn,
    Calls,
    Sessions,
    Groups,
    Storage,
    SingleSignOn,
    Accounts,
    Limits,
    Operation,
    Access,
    Listening,
):
    """The values of all sections. `None` stands for "it depends", and a property says on what.

    attrs takes the fields of the last base first: that is the order in which they are shown. No slots, since
    a class can't have several bases with slots.
    """

    @property
    def origins(self) -> tuple[str, ...]:
        if self.allowed_origins is not None:
            return self.allowed_origins
        return DEVELOPMENT_ORIGINS if self.environment == "development" else ()

    @property
    def kept_in(self) -> str:
        """The kind of store."""
        return self.store or ("postgres" if self.database_url else "sqlite")

    @property
    def kept_where(self) -> str:
        """The place where groups are kept, as people are told it."""
        places = {"sqlite": self.data_dir, "postgres": "the database of DATABASE_URL"}
        return places.get(self.kept_in, "memory, and end with the server")

    @property
    def level(self) -> str:
        wanted = {pattern.strip() for pattern in self.debug.split(",")}
        return "debug" if wanted & {"peershare", "peershare:*", "*"} else self.log_level
