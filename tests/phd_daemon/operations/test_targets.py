"""What `phd targets` says of a target in a few words."""

from __future__ import annotations

import pytest

from phd_daemon.operations.targets import _state
from restore_core.errors import BadArchive, PhdError, TargetNotTrusted, TargetRefused, TargetUnavailable
from restore_core.targets.remote.connection import TooManyConnections


@pytest.mark.parametrize(
    ("error", "listed", "said"),
    [
        (TooManyConnections("x"), None, "lets in no more now"),
        (TargetRefused("x"), None, "refuses"),
        (TargetNotTrusted("x"), None, "is not trusted"),
        (TargetUnavailable("x"), None, "does not answer"),
        (BadArchive("x"), 0.1, "answers, cannot be read"),
        (None, 0.25, "answers in 0.25 s"),
    ],
)
def test_a_server_that_answers_with_a_refusal_is_not_said_to_be_silent(
    error: PhdError | None, listed: float | None, said: str
) -> None:
    """The cause stood below the table, and the table said "does not answer"."""
    assert _state(error, listed) == said
