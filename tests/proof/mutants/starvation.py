"""A bug for R21: that there may be no process to be had was not thought of."""

from __future__ import annotations

from typing import Any

from phd_daemon.daemon import children


def no_process_is_a_surprise() -> None:
    real: Any = children.Workers.start

    def start(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return real(self, *arguments, **named)
        except OSError as error:
            raise RuntimeError(str(error)) from error

    setattr(children.Workers, "start", start)  # noqa: B010  mypy forbids the plain form
