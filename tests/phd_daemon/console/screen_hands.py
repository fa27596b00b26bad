"""Somebody at the Textual screen: waits until a question stands there, reads what is drawn, presses keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from textual.events import Key
from textual.pilot import Pilot

from phd_daemon.console.face import Face
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.question_screen import QuestionScreen
from phd_daemon.console.screen.screen_face import ScreenFace

_PATIENCE = 120.0


class ScreenHands:
    """A pilot that waits for what it reads. A test that waits for what never comes fails after two minutes."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    def text(self) -> str:
        """All lines as they are drawn now, without the spaces at their ends."""
        return "\n".join(strip.text.rstrip() for strip in self.app.screen._compositor.render_strips())

    def shows(self, *texts: str) -> bool:
        """Is all of this drawn, be it broken into lines."""
        drawn = self.text()
        flowing = " ".join(drawn.split())
        return all(text in drawn or text in flowing for text in texts)

    async def expect(self, *texts: str, asked: bool = True) -> str:
        """Wait until all of this is drawn, by a screen that takes an answer; what is drawn then."""
        await self.until(lambda: self._open() is asked and self.shows(*texts), str(texts))
        return self.text()

    async def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not true():
            assert time.monotonic() < end, f"{what} did not come; the screen shows:\n{self.text()}"
            await self.pilot.pause(0.01)

    def _open(self) -> bool:
        return isinstance(self.app.screen, QuestionScreen) and self.app.screen.takes(Key("a", "a"))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(
            *[{" ": "space", "/": "slash", ".": "full_stop", "-": "minus"}.get(letter, letter) for letter in text]
        )

    async def answer(self, text: str, *keys: str) -> str:
        """Wait for this, then press; what was drawn."""
        shown = await self.expect(text)
        await self.press(*keys)
        return shown


def at_the_screen(
    talk: Callable[[Face], object],
    do: Callable[[ScreenHands], Awaitable[None]],
    *,
    size: tuple[int, int] = (80, 24),
    pulse: float = 0.02,
) -> ConsoleApp:
    """Run `talk` on a screen of that many columns and lines, and `do` in front of it; raises what either raises."""
    app = ConsoleApp(lambda app: talk(ScreenFace(app)), pulse=pulse)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            try:
                await do(ScreenHands(app, pilot))
            finally:
                app.release()

    asyncio.run(run())
    app.join()
    if app.error is not None:
        raise app.error
    return app
