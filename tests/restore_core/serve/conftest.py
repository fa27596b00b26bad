from __future__ import annotations

from collections.abc import Iterator

import pytest

from restore_core.serve.disk import ServedDisk
from tests.lab import Lab
from tests.restore_core.serve.served_lab import Served


@pytest.fixture
def served(lab: Lab) -> Served:
    return Served(lab)


@pytest.fixture
def disk(served: Served) -> Iterator[ServedDisk]:
    with served.open() as opened:
        yield opened
