"""Who may submit what, as the configuration says it."""

from __future__ import annotations

from phd_daemon.config.model import Config, SubmitterLimits
from phd_daemon.spool.access import groups_of
from phd_daemon.spool.control_file import ControlFile, check_policy, parse_control_file
from phd_daemon.spool.keeper import IntakeRules


def door_policy(config: Config) -> IntakeRules:
    """Returns how control files are validated under this configuration."""
    names = tuple(spec.name for spec in config.targets)

    def judge(text: bytes, submitter: str) -> ControlFile:
        control = parse_control_file(text)
        limits = _limits(config, submitter)
        check_policy(control, roots=config.datastores.roots, target_names=names, submitter=submitter, limits=limits)
        return control

    return IntakeRules(validate=judge, submitters=config.queue.submitters, open=config.queue.enabled)


def _limits(config: Config, submitter: str) -> SubmitterLimits | None:
    """Returns the limits of a user, or of the first of his groups that has some."""
    limits = config.queue.submitter_limits
    if submitter in limits:
        return limits[submitter]
    mine = groups_of(submitter)
    return next((limit for name, limit in limits.items() if name.startswith("@") and name[1:] in mine), None)
