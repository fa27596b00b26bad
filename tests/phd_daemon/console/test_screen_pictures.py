"""The pictures in the README are those of the screens as they are now: `make pictures` draws them again."""

from __future__ import annotations

import pytest

from tests.phd_daemon.console.pictures import FOLDER, PICTURES, draw, words


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_screen_of_now(name: str) -> None:
    svg, text = draw(name)
    kept = (FOLDER / f"{name}.svg").read_text()
    assert words(kept) == ["phd", *text.split()], "the screen has changed: 'make pictures'"
    assert kept == svg, "the picture has changed: 'make pictures'"


def test_the_readme_shows_every_picture() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text()
    for name in PICTURES:
        assert f"(docs/pictures/{name}.svg)" in readme


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_asks_nothing_of_the_network(name: str) -> None:
    kept = (FOLDER / f"{name}.svg").read_text()
    assert "url(http" not in kept.replace('"', "")
