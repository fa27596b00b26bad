"""What a stream of ranges has still to deliver, so that another connection can go on where one broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from restore_core.targets.base import Range


class PendingRanges:
    """The ranges that were asked for and not yet delivered, and those still to come."""

    def __init__(self, wanted: Iterator[Range]) -> None:
        self._wanted = wanted
        self._asked: deque[Range] = deque()
        self.failed: BaseException | None = None
        """An error of the iterator itself. It is not the server's, and a second try would find the iterator at its end."""

    def rest(self) -> Iterator[Range]:
        """Yields the ranges from the first that was not delivered."""
        yield from tuple(self._asked)
        while True:
            try:
                following = next(self._wanted)
            except StopIteration:
                return
            except BaseException as error:
                self.failed = error
                raise
            self._asked.append(following)
            yield following

    def delivered(self) -> None:
        """Drops the first range: it arrived."""
        self._asked.popleft()
