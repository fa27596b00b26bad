# Sourced by the scripts beside it. as_root CMD...: run as root if that needs no question, else fail (126).
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 126
    fi
}

# apt_install PACKAGE...: 0 when installed. Says what failed; never asks, never waits long for a dead network.
apt_install() {
    command -v apt-get >/dev/null || { echo "  no apt-get here: not a Debian" >&2; return 1; }
    as_root true || { echo "  not root, and sudo wants a password" >&2; return 1; }
    local options=(-o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=120)
    # An update that fails (offline, one dead mirror) may still leave a list or a cached package that works.
    if [ -z "${apt_updated:-}" ]; then
        as_root apt-get "${options[@]}" -qq update >/dev/null 2>&1 || echo "  apt-get update failed; trying with the lists that are here" >&2
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" -qq -y --no-install-recommends install "$@" >/dev/null 2>&1
}
