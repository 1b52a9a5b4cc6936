"""Logs, metrics, and the end of the process."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import Seconds, Token


@attrs.frozen(slots=False)
class Operation:
    environment: str = setting(
        "development",
        click.Choice(["development", "production", "test"]),
        "ENVIRONMENT",
        "NODE_ENV",
        meaning="Decides the form of the logs (JSON lines in production) and the default of ALLOWED_ORIGINS.",
    )
    log_level: str = setting(
        "info",
        click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        "LOG_LEVEL",
        meaning="The least severe level that is logged. At debug, every frame's type and size.",
    )
    debug: str = setting("", click.STRING, "DEBUG", meaning="`peershare:*` is the same as LOG_LEVEL=debug.")
    metrics_token: str = setting(
        "",
        Token(),
        "METRICS_TOKEN",
        meaning="The bearer token that /metrics asks for. Empty: none.",
        secret=True,
    )
    shutdown_timeout: float = setting(
        10.0,
        Seconds(0.1, 3600),
        "SHUTDOWN_TIMEOUT",
        unit="s",
        meaning="Time for an orderly end.",
    )
