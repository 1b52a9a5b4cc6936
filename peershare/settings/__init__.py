"""Settings: `table` has all of them, `types` the rules of the values, `reading` finds the values."""

from peershare.settings.access import DEVELOPMENT_ORIGINS, LOOPBACK
from peershare.settings.reading import Configured, options, read_settings, settings_from, tls_context
from peershare.settings.section import about
from peershare.settings.table import Settings

__all__ = [
    "DEVELOPMENT_ORIGINS",
    "LOOPBACK",
    "Configured",
    "Settings",
    "about",
    "options",
    "read_settings",
    "settings_from",
    "tls_context",
]
