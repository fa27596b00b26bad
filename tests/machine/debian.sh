#!/bin/bash
# debian.sh test|demo|proof|bench: install the Debian packages whose programs are missing, where that is possible without a question.
# Always exits 0: what is still missing is named, and the tests that need it skip and say so.
set -uo pipefail
# shellcheck source=tests/machine/privilege.sh
. "$(dirname "$0")/privilege.sh"
PATH=$PATH:/usr/sbin:/sbin

# package:program (or file) that shows it is here
demo=(e2fsprogs:mkfs.ext4 qemu-utils:qemu-img)
test=("${demo[@]}" pigz:pigz busybox:busybox strace:strace openssh-server:sshd vsftpd:vsftpd openssl:openssl)
test+=(faketime:faketime iptables:iptables iproute2:tc)
test+=(xfsprogs:mkfs.xfs groff-base:groff qemu-system-x86:qemu-system-x86_64)
test+=(fdisk:sfdisk mtools:mcopy dosfstools:mkfs.vfat ntfs-3g:ntfscp fuse3:fusermount3)
test+=(libnbd-bin:nbdinfo nbdkit:nbdkit fio:fio)
test+=(mksh:mksh ksh93u+m:ksh93 yash:yash zsh:zsh shellcheck:shellcheck curl:curl wget:wget lynx:lynx)
proof=("${test[@]}" debootstrap:debootstrap ovmf:/usr/share/OVMF/OVMF_CODE_4M.fd)
bench=("${test[@]}" borgbackup:borg restic:restic casync:casync bmap-tools:bmaptool curl:curl rclone:rclone lftp:lftp rsync:rsync)

missing() {
    local pair
    for pair in "$@"; do
        command -v "${pair#*:}" >/dev/null || [ -e "${pair#*:}" ] || echo "${pair%%:*}"
    done
}

# Servers that conflict with each other as packages are unpacked side by side, with the libraries that are not here. No root is needed.
unpacked=(proftpd-core proftpd-mod-crypto pure-ftpd pure-ftpd-common)
unpack() {
    local to=$PWD/.work/debian scratch all library
    [ -e "$to/.complete" ] && return
    command -v apt-get >/dev/null && scratch=$(mktemp -d) || return
    all=("${unpacked[@]}")
    while read -r library; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$library" 2>/dev/null | grep -q ^ii || all+=("$library")
    done < <(apt-cache depends --recurse --no-pre-depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "${unpacked[@]}" 2>/dev/null | grep -E '^lib[a-z0-9]' | sort -u)
    (cd "$scratch" && apt-get -qq download "${all[@]}") >/dev/null 2>&1 || {
        as_root apt-get -qq update >/dev/null 2>&1
        (cd "$scratch" && apt-get -qq download "${all[@]}") >/dev/null 2>&1
    }
    mkdir -p "$to"
    for library in "$scratch"/*.deb; do [ -e "$library" ] && dpkg -x "$library" "$to"; done
    rm -rf "$scratch"
    if [ -x "$to/usr/sbin/proftpd" ] && [ -x "$to/usr/sbin/pure-ftpd" ]; then touch "$to/.complete"; else
        echo "not unpacked: ${unpacked[*]}; what needs them is skipped"
    fi
}

case ${1:-} in
test) wanted=("${test[@]}") ;;
proof) wanted=("${proof[@]}") ;;
demo) wanted=("${demo[@]}") ;;
bench) wanted=("${bench[@]}") ;;
*) echo "usage: debian.sh test|demo|proof|bench" >&2; exit 2 ;;
esac

case $1 in test | proof) unpack ;; esac
mapfile -t absent < <(missing "${wanted[@]}")
[ ${#absent[@]} = 0 ] && exit 0
echo "Debian packages wanted: ${absent[*]}"
# Tests start servers of their own, on loopback and without root. The packages must not leave theirs running.
no_service() {
    case " ${absent[*]} " in *" $1 "*) ;; *) return ;; esac
    shift
    command -v systemctl >/dev/null && as_root systemctl disable --quiet --now "$@" >/dev/null 2>&1
    return 0
}

# All at once is quicker; one by one when one of them is not to be had.
apt_install "${absent[@]}" || for package in "${absent[@]}"; do apt_install "$package" || true; done
no_service openssh-server ssh.socket ssh.service
no_service vsftpd vsftpd.service
mapfile -t absent < <(missing "${wanted[@]}")
[ ${#absent[@]} = 0 ] || echo "still missing: ${absent[*]}; what needs them is skipped. As root: apt-get install ${absent[*]}"
exit 0
