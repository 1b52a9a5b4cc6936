"""One row of the table of settings."""

from typing import Any

import attrs
import click


@attrs.frozen
class About:
    """A setting's variables (the first is its name), its type, unit and meaning."""

    variables: tuple[str, ...]
    type: click.ParamType[Any]
    unit: str
    meaning: str
    secret: bool = False
    empty_counts: bool = False  # an empty variable is a value, where others are as good as not set
    flag_value: str | None = None  # the value of the option alone


def setting(
    default: Any,
    type_: click.ParamType[Any],
    *variables: str,
    unit: str = "",
    meaning: str,
    secret: bool = False,
    empty_counts: bool = False,
    flag_value: str | None = None,
) -> Any:
    row = About(variables, type_, unit, meaning, secret, empty_counts, flag_value)
    return attrs.field(default=default, metadata={About: row})


def about(field: "attrs.Attribute[Any]") -> About:
    """Return the row of one field of Settings."""
    row: About = field.metadata[About]
    return row
