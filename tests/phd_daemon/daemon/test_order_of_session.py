"""The work order of a session's job: the daemon adds where the session's record is."""

from __future__ import annotations

from pathlib import Path

from phd_daemon.spool.control_file import parse_control_file, render_control_file
from phd_daemon.worker.order import WorkOrder, from_json
from restore_core.restore.request import RestoreOptions

TEXT = b'delta = "t:a/b.phd"\nrestore_to = "/v/a/CRM.vmdk"\nsession = "0123456789ab"\n'


def test_a_control_file_says_its_session_and_says_it_again() -> None:
    control = parse_control_file(TEXT)
    assert control.session == "0123456789ab"
    assert render_control_file(control).encode() == TEXT


def test_an_order_carries_the_claim_of_its_session_to_the_worker(tmp_path: Path) -> None:
    order = WorkOrder(
        job="crm", attempt=1, spool="/s", lock_fd=3, delta="t:a/b.phd", restore_to="/v/a/CRM.vmdk", full=None,
        options=RestoreOptions(), roots=("/v",), mode=0o600, reserved=0, records="/r", datastores="/d", catalog="/c",
        catalog_max_age=1.0, targets=(), session="0123456789ab", session_record=str(tmp_path / "D.phd-session"),
    )  # fmt: skip
    claim = from_json(order.to_json()).request().session
    assert claim is not None
    assert (claim.id, claim.record) == ("0123456789ab", tmp_path / "D.phd-session")
