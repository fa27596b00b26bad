#!/bin/bash
# venv.sh FOLDER: make the virtual environment of this checkout, with phd editable in it and the tools of development.
set -euo pipefail
venv=$1
here=$(dirname "$0")
# shellcheck source=tests/machine/privilege.sh
. "$here/privilege.sh"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "phd needs Python 3.11 or newer; python3 here is $(python3 --version 2>&1)" >&2
    exit 1
}
if ! [ -x "$venv/bin/pip" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    # Debian ships python3 without ensurepip; then -m venv leaves half an environment and fails.
    if ! python3 -m venv --clear "$venv" >/dev/null 2>&1; then
        echo "python3 -m venv fails here; installing python3-venv"
        apt_install python3-venv || { echo "Please install the package python3-venv, then run make again." >&2; exit 1; }
        python3 -m venv --clear "$venv"
    fi
fi
echo "installing phd and its tools into $venv"
# compat: a line in a .pth file, as quick to start from as an installed package; the default looks every import up first.
"$venv/bin/pip" install -qq --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
