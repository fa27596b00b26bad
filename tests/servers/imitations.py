"""FTP servers that are imitated: what each does otherwise than pyftpdlib."""

from __future__ import annotations

from typing import Any


def _no_rest(reply: str) -> dict[str, Any]:
    return {"answers": {"REST": reply}}


IMITATIONS: dict[str, dict[str, Any]] = {
    "no REST": {"without": ["REST"]},
    "REST 501": _no_rest("501 REST: Resuming transfers is not enabled"),
    "REST 502": _no_rest("502 Command not implemented."),
    "REST 504": _no_rest("504 Reply marker invalid."),
    "REST denied": _no_rest("550 Permission denied."),
    "REST taken, then 551": {"restart": "551 Restart not supported for this file"},
    "MLSD denied": {"answers": {"MLSD": "550 Unable to handle command"}, "dots": "asked"},
    "no MLSD": {"without": ["MLSD", "MLST"]},
    "MLSD in FEAT alone": {"answers": {"MLSD": "502 MLSD command not implemented."}},
    "MLSD without modify": {"facts": ["modify"]},
    "MLSD without size": {"facts": ["size"]},
    "MLSD without modify and size": {"facts": ["modify", "size"]},
    "MLSD without modify, no MDTM": {"facts": ["modify"], "without": ["MDTM"]},
    "MLSD without size, no SIZE": {"facts": ["size"], "without": ["SIZE"]},
    "MLSD of type alone, neither SIZE nor MDTM": {"facts": ["size", "modify"], "without": ["SIZE", "MDTM"]},
    "MLSD with its own folder, and links": {"own": True},
    "no MDTM": {"without": ["MDTM"]},
    "no SIZE": {"without": ["SIZE"]},
    "neither MDTM nor SIZE": {"without": ["MDTM", "SIZE"]},
    "LIST alone": {"without": ["MLSD", "MLST", "MDTM", "SIZE"]},
    "LIST alone, no REST": {"without": ["MLSD", "MLST", "MDTM", "SIZE", "REST"]},
    "LIST alone, no FEAT": {"without": ["MLSD", "MLST", "MDTM", "SIZE", "FEAT", "OPTS"]},
    "LIST of IIS": {"without": ["MLSD", "MLST"], "dos": True},
    "LIST of IIS alone": {"without": ["MLSD", "MLST", "MDTM", "SIZE"], "dos": True},
    "EPSV alone": {"answers": {"PASV": "502 PASV not allowed, use EPSV"}},
    "PASV 500": {"without": ["PASV"]},
    "PASV 425": {"answers": {"PASV": "425 Cannot open passive connection"}},
    "no EPSV": {"without": ["EPSV"]},
    "no passive mode": {"without": ["PASV", "EPSV"]},
    "PASV with a private address": {"address": "10.11.12.13"},
    "425 for a file now and then": {"answers": {"RETR": ["425 Can't open data connection.", 2], "STOR": ["425 Failed.", 1]}},
    "425 for a listing": {"answers": {"MLSD": ["425 Unable to build data connection: Connection timed out", 1]}},
    "425 always": {"answers": {"RETR": "425 Can't open data connection.", "STOR": "425 Can't open data connection."}},
    "426 in the middle": {"cut": [3000, "426 Connection closed; transfer aborted.", 2]},
    "451 in the middle": {"cut": [3000, "451 Requested action aborted: local error in processing", 2]},
    "426 at every transfer": {"cut": [3000, "426 Connection closed; transfer aborted.", 1 << 30]},
    "421 after each transfer": {"last": "421 Idle timeout (60 seconds): closing control connection"},
    "hangs up after each transfer": {"last": ""},
    "no NOOP": {"without": ["NOOP"]},
    "no data in clear": {"answers": {"MLSD": "522 Data connections must be encrypted.", "STOR": "522 Data must be encrypted."}},
    "no TYPE": {"answers": {"TYPE": "504 Command not implemented for that parameter"}},
}
"""What is imitated, by name. The words are those of manners.py."""

REFUSED: dict[str, str] = {
    "no passive mode": "opens no port for data: PASV: 500 Unknown command.; EPSV: 500 Unknown command.",
    "425 always": "the server answers: 425 Can't open data connection.",
    "426 at every transfer": "the server answers: 426 Connection closed; transfer aborted.",
    "no data in clear": "Write ftps:// in the url of this target",
    "no TYPE": "does not take TYPE I: 504 Command not implemented",
}
"""Those to which no backup can be made, or from which none comes back, and what is said then. With all others everything works."""

SAID: dict[str, str] = {
    **{
        name: "no REST: reads from the start, slower"
        for name in IMITATIONS
        if "REST" in name and "taken" not in name and "denied" not in name
    },
    **{
        name: "no MLSD: sizes and times are read from a listing"
        for name in IMITATIONS
        if name in ("LIST alone", "no MLSD", "MLSD denied")
    },
    "no MDTM": "no MDTM: the times of files are rough",
    "MLSD without size, no SIZE": "no MLSD: sizes and times are read from a listing",
}
"""What `phd targets` says of some of them."""
