"""The store, which keeps groups beyond the process: docs/data.md."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import DatabaseUrl


@attrs.frozen(slots=False)
class Storage:
    store: str | None = setting(
        None,
        click.Choice(["memory", "sqlite", "postgres"]),
        "STORE",
        meaning="Where groups are kept: `sqlite`, a file in DATA_DIR; `postgres`, the database of "
        "DATABASE_URL; `memory`, nowhere, so that they end with the process. The default is postgres with "
        "DATABASE_URL, else sqlite.",
    )
    database_url: str = setting(
        "",
        DatabaseUrl(),
        "DATABASE_URL",
        meaning="A database of PostgreSQL: postgresql://user:password@host/name.",
        secret=True,
    )
    data_dir: str = setting(
        "./peershare-data",
        click.Path(file_okay=False),
        "DATA_DIR",
        meaning="The directory of the SQLite file. It is made where there is none, for its user alone.",
    )
