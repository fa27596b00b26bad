"""The settings of one installation: `/etc/phd/phd.toml`, read whole or not at all (DESIGN §3.6).

    values   the kinds of values and how they are written
    model    the keys, their defaults, and `Config`
    load     file -> Config, or one error with every problem in it
    edit     one value changed in the file, its comments kept

This package imports pydantic (20 MB, 70 ms): only processes that read the configuration import it, never a worker.
"""

from phd_daemon.config.load import load_config, parse_config
from phd_daemon.config.model import Config, Queue, SubmitterLimits, needs_restart

__all__ = ["Config", "Queue", "SubmitterLimits", "load_config", "needs_restart", "parse_config"]
