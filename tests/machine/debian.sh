#!/bin/bash
# debian.sh test|demo|bench: install the Debian packages whose programs are missing, where that is possible without a question.
# Always exits 0: what is still missing is named, and the tests that need it skip and say so.
set -uo pipefail
# shellcheck source=tests/machine/privilege.sh
. "$(dirname "$0")/privilege.sh"
PATH=$PATH:/usr/sbin:/sbin

# package:program that shows it is here
demo=(e2fsprogs:mkfs.ext4 qemu-utils:qemu-img)
test=("${demo[@]}" pigz:pigz busybox:busybox strace:strace openssh-server:sshd vsftpd:vsftpd openssl:openssl)
test+=(faketime:faketime iptables:iptables iproute2:tc)
test+=(xfsprogs:mkfs.xfs groff-base:groff)
test+=(mksh:mksh ksh93u+m:ksh93 yash:yash zsh:zsh shellcheck:shellcheck curl:curl wget:wget lynx:lynx)
bench=("${test[@]}" borgbackup:borg restic:restic casync:casync bmap-tools:bmaptool curl:curl rclone:rclone lftp:lftp rsync:rsync)

missing() {
    local pair
    for pair in "$@"; do
        command -v "${pair#*:}" >/dev/null || echo "${pair%%:*}"
    done
}

case ${1:-} in
test) wanted=("${test[@]}") ;;
demo) wanted=("${demo[@]}") ;;
bench) wanted=("${bench[@]}") ;;
*) echo "usage: debian.sh test|demo|bench" >&2; exit 2 ;;
esac

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
