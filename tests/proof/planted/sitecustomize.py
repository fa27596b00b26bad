"""Plants one bug before anything else runs: only in processes that the scoreboard starts with this folder on their path."""

import importlib
import os

_named = os.environ.get("PHD_PROOF_PLANTED", "")
if _named:
    _module, _, _function = _named.partition(":")
    getattr(importlib.import_module(f"tests.proof.mutants.{_module}"), _function)()
