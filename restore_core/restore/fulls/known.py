"""Copies of a Full that the catalog knows of. Its listings are looked at anew first where they are too old."""

from __future__ import annotations

import time
from collections.abc import Sequence

from restore_core.restore.fulls.find import Known, no_copies
from restore_core.restore.request import Reporter, RestoreRequest
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef
from restore_core.targets.kinds import make_target


def copies_in_catalog(request: RestoreRequest, targets: TargetSet, reporter: Reporter) -> Known:
    """The question for `proven_copies`. It costs nothing until it is asked: a restore that needs no Full looks at no target."""
    folder = request.catalog
    if folder is None:
        return no_copies

    def known(size: int) -> Sequence[ArchiveRef]:
        from restore_core.catalog.index import Catalog

        catalog = Catalog(folder, tuple(targets.specs.values()))
        # A target that failed within the age is not waited for: its last listing serves, and it is asked again if all else fails.
        old = catalog.old(max_age=request.catalog_max_age, now=time.time(), left_alone=request.catalog_max_age)
        try:
            if old:
                catalog.index(lambda spec: make_target(spec, targets.limits, targets.stop), names=old)
            return [ref for ref, _ in catalog.of_size(size)]
        except PermissionError:  # a person's own restore, where the cache is the daemon's
            return ()
        except OSError as error:
            reporter.note(f"the catalog cannot be used: {error.strerror}; the targets are asked one after another")
            return ()

    return known
