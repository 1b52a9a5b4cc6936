"""The refusals and close codes, where they were before `messages` became a package."""

from peershare.messages.close_codes import *  # noqa: F403
from peershare.messages.errors import *  # noqa: F403
