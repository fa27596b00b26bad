# shellcheck shell=sh disable=SC2015,SC2317,SC2030,SC2031
# (SC2015: in "A && B || C" C is meant for both; SC2317: functions are called through "$@"; SC203x: subshells are meant.)
#
# This archive restores itself. It needs a POSIX shell and the usual small tools (dd with iflag=fullblock, gzip, awk, sed,
# od, tr, tee, find, fold, ls, ln, df, mkdir; openssl, sha256sum or shasum); busybox alone has them all. To replace an existing disk
# it needs flock (util-linux) as well. Nothing behind these 64 KiB is run.
#
# What holds: a disk gets its final name only when the SHA-256 was right of this head, of every section, of the compressed Full
# and of each 16 MiB of the finished disk. Until then it is NAME.phd-part, which is removed after any error. While it gets its
# name, .phd-RANDOM-WHAT.tmp and, if a disk is replaced, NAME.phd-replaced lie beside it. There is no other temporary file: what
# is needed in two places at once goes through pipes.
#
# Nobody else writes this disk: from the first look to the last act a lock is held on NAME.phd-hold (descriptor 9) and a shared
# one on the folder (8), by all processes that move bytes, too. The part file is made new and stays open (6); before it gets its
# name its inode is compared. A file that changed since the start, or that a program has open, is not replaced.
#
# Numbers: counted in blocks of the disk and the bytes left over, because some shells have 32 bits only; awk divides. Texts of the
# header are printed, never run, and none is used as a path.
#
# Processes: the main one makes and removes names and receives signals; a worker behind it moves the bytes, and stops within
# 64 MiB when the main one is gone.

me=$0
case $me in /*) ;; *) me=./$me ;; esac
export LC_ALL=C
unset GZIP PIGZ
set -f
umask 077
full='' to='' thin='' overwrite='' secret='' worker='' part='' meter='' damaged='' hold='' text='' fifo='' private='' made=''
exec 8<>/dev/null 9<>/dev/null
case ${KSH_VERSION-} in
*MIRBSD*) say() { print -r -- "$*"; } ;; # its printf is a program, and other users can see the arguments of programs
*) say() { printf '%s\n' "$*"; } ;;
esac
die() { say "$2" >&2; exit "$1"; } # 2 usage, 65 bad data, 69 no Full to be had, 73 cannot write there, 75 try again
have() { command -v "$1" >/dev/null 2>&1; }
if have busybox; then # it replaces the tools that are missing
    for tool in awk cat date dd df find flock fold gzip ln ls mkdir mkfifo mv od rm rmdir sed sha256sum stat stty sync tee tr \
        wget; do
        have "$tool" || eval "$tool() { busybox $tool \"\$@\"; }"
    done
fi
dd if=/dev/null iflag=fullblock status=none 2>/dev/null || die 2 "dd knows no iflag=fullblock: use the one of coreutils or busybox"

# ---- the header ----

newline='
'
header=$newline$(dd if="$me" bs=65461 count=1 status=none 2>/dev/null | tr '\000' '\001' |
    sed -n '/^#: end$/{ s/.*/end=/p; q; }; s/^#: //p')$newline
field() { value=${header#*"$newline$1="} && say "${value%%"$newline"*}"; }
case $header in
*"${newline}format=1."*) ;;
*"${newline}format="*) die 65 "$me: format $(field format); this script reads 1" ;;
*) die 2 "Run this file by its name: sh ./NAME.phd (not: sh -s < NAME.phd)" ;;
esac
full_id=$(field full-id) full_name=$(field full-name) full_size=$(field full-size) full_sha256=$(field full-sha256)
disk_size=$(field disk-size) full_disk_size=$(field full-disk-size) frame=$(field frame-size) file_size=$(field file-size)
block=$(field block-size) segment=$(field segment-size) blocks_full=$(field blocks-full) blocks_delta=$(field blocks-delta)
vm=$(field vm) vmdk=$(field vmdk) left_out=$(field left-out) sections=$(say "$header" | sed -n 's/^section //p')
# The rules of FORMAT.md for the header. The numbers of awk are exact up to 2^53.
check_header() {
    say "$header" | awk '
        function bad(text) { if (!wrong) { gsub(/[^ -~]/, "?", text); print substr(text, 1, 200) } wrong = 1; exit }
        function number(key) {
            if (v[key] !~ /^(0|[1-9][0-9]*)$/ || length(v[key]) > 18) bad(key " is not a number")
            return v[key] + 0
        }
        function hex(text, digits) { return length(text) == digits && text !~ /[^0-9a-f]/ }
        $0 == "end=" { ended = 1; exit }
        /^section / {
            if (split($0, w, " ") != 5 || $0 != "section " w[2] " " w[3] " " w[4] " " w[5] || w[2] ~ /[^!-~]/ || !hex(w[5], 64))
                bad("a section is not readable")
            if (w[2] in size) bad("section " w[2] " is there twice")
            v["offset"] = w[3]; v["length"] = w[4]
            if (number("offset") != at + 65536) bad("section " w[2] " overlaps another, or there is a gap before it")
            at += number("length"); size[w[2]] = w[4] + 0
            next
        }
        $0 != "" {
            cut = index($0, "="); key = cut ? substr($0, 1, cut - 1) : $0
            if (key in v) bad(key " is there twice")
            v[key] = cut ? substr($0, cut + 1) : ""
            if (v[key] ~ /[\001-\037\177]/) bad(key " holds a control character")
        }
        END {
            if (wrong) exit
            if (!ended) bad("it has no end")
            n = split("requires vm uuid scsi vmdk full-name made-by signature", w, " ")
            for (i = 1; i <= n; i++) if (!(w[i] in v)) bad(w[i] " is missing")
            if (v["format"] !~ /^1\.[0-9]+$/ || length(v["format"]) > 20) bad("format " v["format"] " is not known")
            if (v["requires"] != "") bad("it needs " v["requires"] ", which this script does not know")
            if (v["segment-digest"] != "sha256") bad("segment-digest " v["segment-digest"] " is not known")
            if (v["block-digest"] != "blake3" && v["block-digest"] != "sha256")
                bad("block-digest " v["block-digest"] " is not known")
            if (v["signature-scheme"] != "none" || v["signature"] != "") bad("it has a signature that this script does not know")
            if (!hex(v["id"], 32) || !hex(v["full-sha256"], 64) || (v["full-id"] != "" && !hex(v["full-id"], 32)))
                bad("a digest or id")
            n = split("disk-size block-size time full-time full-size full-disk-size frame-size blocks-zero blocks-full " \
                "blocks-delta segment-size file-size", w, " ")
            for (i = 1; i <= n; i++) number(w[i])
            d = v["disk-size"] + 0; b = v["block-size"] + 0; f = v["frame-size"] + 0
            for (power = 512; power < b; power *= 2) ;
            old = v["full-disk-size"] + 0; most = 2251799813685248
            if (power != b || b > 16777216 || v["segment-size"] != 16777216 || d > most || old > most)
                bad("its sizes contradict each other")
            if (f && (f < b || f > 67108864 || f % b || (4096 * b) % f)) bad("frame-size " f " does not fit")
            if ((f == 0) != (v["full-id"] == "")) bad("frame-size and full-id contradict each other")
            blocks = int((d + b - 1) / b)
            if (v["blocks-zero"] + v["blocks-full"] + v["blocks-delta"] != blocks) bad("its counts of blocks contradict disk-size")
            n = split("stub descriptor vmx", w, " ")
            for (i = 1; i <= n; i++) if ((w[i] in size) && size[w[i]] > 4194304) bad("section " w[i] " is too long")
            n = split("frames map pages segments full-frames runs", w, " ")
            for (i = 1; i <= n; i++) if (!(w[i] in size)) bad("section " w[i] " is missing")
            if (size["pages"] != 72 * int((blocks + 4095) / 4096) || size["pages"] > 67108864)
                bad("section pages has a wrong length")
            if ((size["frames"] == 0) != (v["blocks-delta"] == 0)) bad("section frames has a wrong length")
            n = size["full-frames"] / 4
            if (n != (f ? int((old + f - 1) / f) : 0) && (!f || old || n != 1)) bad("section full-frames has a wrong length")
            if (at + 65536 != v["file-size"] + 0) bad("the sections do not fill the file")
        }'
}
fault=$(check_header)
[ -z "$fault" ] || die 65 "$me: the header: $fault. Use another copy of this Delta, or restore with a newer phd."
sha256() { # of standard input; its first word is the 64 digits
    case $hasher in
    openssl) openssl dgst -sha256 -r ;;
    shasum) shasum -a 256 ;;
    *) sha256sum ;;
    esac
}
for hasher in openssl sha256sum shasum none; do # openssl first: it uses what the processor has for SHA
    case $(: | sha256 2>/dev/null) in e3b0c44298fc1c149afbf4c8996fb924*) break ;; esac
done
[ "$hasher" != none ] || die 2 "none of openssl, sha256sum and shasum works here"
found=$(dd if="$me" bs=65461 count=1 status=none | sha256)
if [ "$(dd if="$me" bs=1 skip=65461 count=75 status=none)" != "#= sha256 ${found%% *}" ]; then
    damaged="  DAMAGED           the SHA-256 of this head differs: use another copy"
    case ${1-} in # stop now, before a damaged line further down is run
    info | help | -h | --help) ;;
    *) die 65 "$me: the head is damaged: its SHA-256 differs. Use another copy of this Delta." ;;
    esac
fi

# ---- bytes ----

is_size() { [ -n "$(find -L "$1" -prune -type f -size "${2}c" -print 2>/dev/null)" ]; }
split() { # split BYTES: sets blocks and bytes
    # shellcheck disable=SC2046 # two numbers
    set -- $(awk -v n="$1" -v b="$block" 'BEGIN { q = int(n / b); printf "%.0f %.0f\n", q, n - q * b }')
    blocks=$1 bytes=$2
}
copy() { # copy BLOCKS BYTES [GAP [CONV]]: copies so much from input to output, after a gap of blocks in the output
    todo=$1 rest=$2 gap=${3:-0} conv=${4:-notrunc}
    while [ "$todo" -gt 0 ]; do
        piece=$((todo > batch ? batch : todo))
        kill -0 $$ 2>/dev/null || return 1 # the main process is gone
        dd bs="$block" count="$piece" seek="$gap" conv="$conv" iflag=fullblock status=none 8<&8 9>&9 || return 1
        todo=$((todo - piece)) gap=0
        [ -z "$meter" ] || tick "$piece"
    done
    [ "$gap" = 0 ] || dd if=/dev/null bs="$block" seek="$gap" conv="$conv" status=none || return 1
    [ "$rest" = 0 ] || dd bs="$rest" count=1 conv="$conv" iflag=fullblock status=none
}
place() { # place SECTION: sets offset and length; false if there is none
    wanted=$1
    # shellcheck disable=SC2086 # a list of words
    set -- $sections
    while [ $# -ge 4 ]; do
        offset=$2 length=$3
        [ "$1" != "$wanted" ] || return 0
        shift 4
    done
    return 1
}
silent_copy() (meter='' && copy "$@")
section() { # section NAME: prints its bytes
    place "$1" || return 0
    split "$length"
    [ -z "$meter" ] || measure "$meter" "$blocks"
    { dd bs=1 skip="$offset" count=0 status=none && copy "$blocks" "$bytes"; } <"$me"
}
inflate() { # adds E, or U after anything but a gzip; reads to the end, so that the writer can finish
    { if have pigz; then pigz -dcvv; else gzip -dc; fi; } 2>/dev/null
    status=$?
    [ "$status" -le 128 ] || return # the reader is gone
    [ "$status" = 0 ] && say E || say U
    cat >/dev/null
}
sound() { # sound COMMAND: whether what inflate made of its output ends here. pigz takes padding for junk; gzip does not
    case $(dd bs=3 count=1 iflag=fullblock status=none | tr '\000' 0) in
    E) ;;
    U) (meter='' && "$@") | gzip -t 2>/dev/null ;;
    *) false ;;
    esac
}
list() { section "$1" | gzip -dc; }
measure() { # measure WHAT BLOCKS: starts to show progress, of long work and on a terminal only
    meter=''
    [ -t 2 ] && [ "$2" -ge "$batch" ] || return 0
    meter=$1 meter_all=$2 meter_done=0 meter_next=0 meter_start=$(date +%s)
}
tick() {
    meter_done=$((meter_done + $1))
    [ "$meter_done" -ge "$meter_next" ] || return 0
    meter_next=$((meter_done + batch > meter_all ? meter_all : meter_done + batch))
    awk -v what="$meter" -v n="$meter_done" -v all="$meter_all" -v b="$block" -v s=$(($(date +%s) - meter_start)) '
        function clock(t) { return sprintf("%02d:%02ds", int(t / 60), t % 60) }
        BEGIN { mb = b / 1048576; rate = n * mb / (s ? s : 1)
            printf "\r%s: %d%%, %d mb of %d mb, at %d meg/sec, Elapsed: %s Remain: %s ", what, 100 * n / all, n * mb, all * mb,
                rate, clock(s), clock((all - n) * mb / rate)
            if (n >= all) printf "\n" }' >&2
}

# ---- the Full ----

decode() { # decode TEXT: prints it with each %HH as its byte
    say "$1" | awk 'function hex(c) { return index("0123456789ABCDEF", toupper(c)) - 1 }
        { while (match($0, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
            printf "%s%c", substr($0, 1, RSTART - 1), hex(substr($0, RSTART + 1, 1)) * 16 + hex(substr($0, RSTART + 2, 1))
            $0 = substr($0, RSTART + 3) }
          printf "%s", $0 }'
}
right_full() { # right_full FILE: whether it is the Full by size and id; its digest is checked when it is read
    [ -r "$1" ] && is_size "$1" "$full_size" || return 1
    case $(dd if="$1" bs=64 count=1 status=none | od -A n -v -t x1 | tr -d ' \n') in
    1f8b*50491d0001"$full_id$full_sizes"*) [ -n "$full_id" ] ;;
    1f8b*50491d0001*) false ;;
    1f8b*) [ -z "$full_id" ] ;;
    *) return 1 ;;
    esac
}
first_right() { while IFS= read -r file; do right_full "$file" && say "$file" && break; done; }
look_for_full() { # searches beside this file and in the neighbouring folders: by name, then by size and id
    set +f
    folder=${me%/*} name=$(decode "$full_name")
    for file in "$folder/${name##*/}" "$folder"/../*/"${name##*/}"; do
        [ -z "$full" ] && right_full "$file" && full=$file
    done
    [ -n "$full" ] || full=$(find -L "$folder/." "$folder"/../*/. ! -name . -prune -type f -size "${full_size}c" 2>/dev/null |
        first_right)
    set -f
    [ -n "$full" ]
}
find_full() {
    case $full in
    '') look_for_full || die 69 "The Full $full_name is neither beside this file nor next door: say where, --full PATH_OR_URL" ;;
    ftp://* | ftps://* | http://* | https://* | sftp://*) check_url ;;
    *://*) die 2 "$full: only ftp, ftps, http, https and sftp are known" ;;
    *)
        case $full in /*) ;; *) full=./$full ;; esac
        [ -f "$full" ] && [ -r "$full" ] || die 69 "$full: no such file, or it cannot be read"
        right_full "$full" || die 65 "$full: not the Full of this Delta, which has $full_size bytes and the id ${full_id:-none}"
        ;;
    esac
}
check_url() {
    server=${full#*://}
    server=${server%%/*}
    case $server in
    *:*@*) die 2 "No password in a URL, others could see it: put it into ~/.netrc, or leave it out and be asked on a terminal" ;;
    -*) die 2 "$server: not the name of a server" ;;
    esac
    case $full in sftp:* | *://"${server#*@}"/*) return 0 ;; esac # ssh asks by itself; no user, no password
    have curl && [ -t 0 ] || return 0
    printf 'Password of %s (Enter: as in ~/.netrc): ' "$server" >&2
    stty -echo
    IFS= read -r secret
    stty echo
    say '' >&2
}
quoted() { say "$1" | sed 's/[\\"]/\\&/g'; }
fetch() { # prints the Full from a URL; curl gets URL and password on standard input
    case $full in
    sftp:*) fetch_ssh ;;
    *) if have curl; then
        {
            say "url = \"$(quoted "$full")\""
            [ -z "$secret" ] || say "user = \"$(quoted "${server%%@*}:$secret")\""
        } | curl -K - -fsSgL --netrc-optional --connect-timeout 30
    elif have wget; then
        wget -q -t 2 -O - "$full"
    elif have lynx; then
        lynx -source "$full"
    else
        die 69 "none of curl, wget and lynx is here to fetch $full"
    fi ;;
    esac
}
fetch_ssh() { # sftp://[USER@]HOST[:PORT]/PATH, or /~/PATH for one below the home folder
    path=$(decode "/${full#*://*/}")
    path=$(say "${path#/~/}" | sed "s/'/'\\\\''/g")
    case $server in *:*) port=${server##*:} ;; *) port='' ;; esac
    # shellcheck disable=SC2029 # the path is quoted for the other side
    ssh ${port:+-p "$port"} "${server%:*}" "cat -- '$path'"
}
full_bytes() { # prints as many bytes as the Full has, and one more if there is one: then the digest differs
    split "$full_size"
    [ -z "$meter" ] || measure "$meter" "$blocks"
    case $full in
    *://*) { (fetch) || say 'not fetched' >&5; } | { copy "$blocks" "$bytes" && dd bs=1 count=1 status=none; } ;;
    *) { copy "$blocks" "$bytes" && dd bs=1 count=1 status=none; } <"$full" ;;
    esac
}
judge_full() { # judge_full REPORT: ends with an error unless the report has the right digest and no failure
    case $1 in
    *'not written'*) die 73 "$part: cannot be written" ;;
    *'no such gzip'*"$full_sha256"*) die 65 "$full: not a sound gzip of $full_disk_size bytes. Use another copy." ;;
    *"$full_sha256"*) ;;
    *'not fetched'*) die 69 "$full: could not be fetched to its end" ;;
    *) die 65 "$full: its SHA-256 is not $full_sha256: damaged, or not the Full of this Delta. Use another copy." ;;
    esac
}

# ---- what a worker does ----

check_delta() {
    # shellcheck disable=SC2086 # a list of words
    set -- $sections
    while [ $# -ge 4 ]; do
        found=$(meter=Delta && section "$1" | sha256)
        [ "${found%% *}" = "$4" ] || die 65 "$me: section $1 is damaged: its SHA-256 differs. Use another copy of this Delta."
        shift 4
    done
    check_lists
}
check_lists() { # the rules of FORMAT.md for segments and runs; no line is read further than its 128 bytes
    fault=$(for list in segments runs; do
        { list "$list" && say end; } 2>/dev/null | fold -b -w 129 |
            awk -v b="$block" -v s="$segment" -v size="$disk_size" -v list="$list" -v count="$blocks_delta" '
            BEGIN { last = -1 }
            function number(text) { return text ~ /^(0|[1-9][0-9]*)$/ && length(text) <= 18 }
            function bad() { print list; wrong = 1; exit }
            ended || length($0) > 128 { bad() }
            $0 == "end" { ended = 1; next }
            list == "segments" {
                if (NF != 2 || $0 != $1 " " $2 || !number($1) || length($2) != 64 || $2 ~ /[^0-9a-f]/) bad()
                if ($1 <= last || $1 * s >= size) bad()
                last = $1 + 0
            }
            list == "runs" {
                if (NF != 3 || $0 != $1 " " $2 " " $3 || !number($1) || !number($2) || ($3 != "delta" && $3 != "zero")) bad()
                end = $1 + $2
                if ($1 < last || $1 % b || $2 == 0 || end > size || (end % b && end != size)) bad()
                last = end
                if ($3 == "delta") delta += int(($2 + b - 1) / b)
            }
            END { if (!wrong && !ended) bad(); if (!wrong && list == "runs" && delta != count) bad() }'
    done)
    [ -z "$fault" ] || die 65 "$me: section $fault is not what it must be. Use another copy of this Delta."
}
check_full() { meter=Full && judge_full "$({ full_bytes | sha256; } 5>&1)"; }
rest_of_full() { # what is beyond the disk
    split "$beyond"
    dd bs="$block" count="$blocks" iflag=fullblock status=none >/dev/null
    silent_copy 0 "$bytes" >/dev/null
    sound full_bytes || say 'no such gzip' >&5
    cat >/dev/null
}
put_full() { # unpacks the Full into the part file (6) and checks it: 4 leads to sha256, 5 to the report
    judge_full "$({ {
        if [ -p "$part.fifo" ]; then cat "$part.fifo" >&4 & fi
        full_bytes | tee "$way" | inflate | (
            split "$full_share"
            measure Full "$blocks"
            if copy "$blocks" "$bytes" 0 "$conv_full" >&6; then rest_of_full; else say 'not written' >&5; fi
        )
    } 4>&1 | sha256; } 5>&1)"
}
run_lines() { # prints the runs for copy: BLOCKS BYTES GAP KIND
    list runs | awk -v b="$block" '{ q = int($2 / b)
        printf "%.0f %.0f %.0f %s\n", q, $2 - q * b, ($1 - at) / b, $3; at = $1 + $2 }'
}
bad_frames='section frames is no sound gzip of its blocks. Use another copy of this Delta.'
sound_frames() { [ "$blocks_delta" = 0 ] || sound section frames; }
put_runs() { # writes the blocks of the Delta, and zeros, over the unpacked Full (7)
    run_lines | {
        exec 3<&0
        section frames | inflate | (
            measure Delta "$blocks_delta"
            while read -r blocks bytes skip kind <&3; do
                case $kind in
                delta) copy "$blocks" "$bytes" "$skip" >&7 ;;
                *) silent_copy "$blocks" "$bytes" "$skip" </dev/zero >&7 ;;
                esac || die 73 "$part: cannot be written"
            done
            sound_frames || die 65 "$me: $bad_frames"
        )
    }
}
as_long() { # reads the unpacked Full, prints it as long as the disk
    split "$full_share"
    copy "$blocks" "$bytes"
    [ "$blocks_full" = 0 ] || rest_of_full
    split "$grown"
    copy "$blocks" "$bytes" </dev/zero
}
overlaid() { # prints the disk: the unpacked Full (7), and over it the blocks of the Delta, and zeros
    run_lines | {
        exec 3<&0
        section frames | inflate | (
            while read -r blocks bytes gap kind <&3; do
                copy "$gap" 0 <&7 || exit
                if [ "$kind" = delta ]; then copy "$blocks" "$bytes"; else copy "$blocks" "$bytes" </dev/zero; fi || exit
                copy "$blocks" "$bytes" <&7 >/dev/null || exit
            done
            sound_frames || say "$bad_frames" >&5
            cat <&7
        )
    }
}
assemble() ( # checks the disk that comes of the unpacked Full; 5 leads to the report
    meter=''
    as_long | overlaid 7<&0 | { check_disk 4<&0 2>&5 || say 'not this disk' >&5; cat >/dev/null; }
)
prove() { # proves that a restore would give the right disk
    if [ "$blocks_full" = 0 ]; then judge_disk "$(assemble 5>&1 </dev/null)" && return; fi
    way=$descriptors/4 meter=Full
    case ${told:-no}${KSH_VERSION-} in # there tee cannot write into a pipe: the Full is read twice
    no* | *93*) way=/dev/null && check_full ;;
    esac
    report=$({ {
        full_bytes | tee "$way" | inflate | assemble
        [ "$way" != /dev/null ] || say "$full_sha256" >&5
    } 4>&1 | sha256; } 5>&1)
    judge_full "$report"
    judge_disk "$report"
}
judge_disk() { # judge_disk REPORT
    case $1 in
    *'not this disk'*) die 65 "$me: $(say "$1" | sed -n '/^segment /p'): section runs or segments is wrong. Use another backup." ;;
    *"$bad_frames"*) die 65 "$me: $bad_frames" ;;
    esac
}
check_disk() { # checks each segment (4) against its digest; those that are not in the list are zero
    list segments | awk -v b="$block" -v s="$segment" -v size="$disk_size" '
        function line(digest) { n = size - at < s ? size - at : s; q = int(n / b); at += s
            printf "%.0f %.0f %s\n", q, n - q * b, digest }
        { while (at < $1 * s) line("zero"); line($2) }
        END { while (at < size) line("zero"); print "end 0 0" }' | (
        split "$disk_size"
        measure Check "$blocks"
        number=0 zeros='' shape=''
        while read -r blocks bytes want; do
            [ "$blocks" != end ] || exit 0
            if [ "$want" = zero ]; then
                [ "$shape" = "$blocks $bytes" ] || zeros=$(silent_copy "$blocks" "$bytes" </dev/zero | sha256)
                want=${zeros%% *} shape="$blocks $bytes"
            fi
            found=$(silent_copy "$blocks" "$bytes" <&4 | sha256)
            [ "${found%% *}" = "$want" ] || die 65 "segment $number (of 16 MiB) is not what was backed up: its SHA-256 differs"
            number=$((number + 1))
            [ -z "$meter" ] || tick "$blocks"
        done
        die 75 "the disk could not be checked to its end"
    )
}
fill() {
    [ "$(open_number 7 "$part") $(open_number 4 "$part")" = "$mine $mine" ] || lost "$part"
    if [ "$blocks_full" != 0 ]; then put_full || exit; fi
    put_runs && check_disk || exit
    dd if=/dev/null conv=notrunc,fsync status=none >&6 || die 73 "$part: cannot be made durable"
}

# ---- the hold, and which file a name leads to ----

number() { # number FILE [L]: prints its inode number; with L that of the file to which a link leads
    # shellcheck disable=SC2046 # the number, then words of the name
    set -- $(ls -di"${2-}" "$1" 2>/dev/null)
    say "${1-}"
}
open_number() { # open_number DESCRIPTOR NAME: prints the inode number of the open file; where the system does not tell, of NAME
    if [ -n "$told" ]; then number "$descriptors/0" L <&"$1"; else number "$2"; fi
}
see_descriptors() { # finds out how the system shows open files
    descriptors=/dev/fd told=''
    [ -e /dev/fd/0 ] || descriptors=/proc/self/fd
    [ "$(number "$descriptors/0" L <"$me")" != "$(number "$me" L)" ] || told=yes
}
see_who_has_it() {
    see_descriptors
    [ -z "$told" ] || return 0
    [ -z "$overwrite" ] || die 73 "$held: nothing is replaced where nobody can see who has it open; mount -t proc proc /proc"
    say "Neither /dev/fd nor /proc shows here what is open: let nobody touch $held.phd-part while this runs" >&2
}
exists() { [ -e "$1" ] || [ -h "$1" ]; }
lock() { # lock [-s] DESCRIPTOR: exit 75 if another process has it, false if there are no locks
    flock -n "$@" 8<&8 9>&9
    case $? in
    0) return 0 ;;
    1) die 75 "$held: phd or another script is at work on this disk. Nothing was changed; try again when it has ended" ;;
    esac
    no_locks
}
no_locks() {
    [ -z "$overwrite" ] || die 73 "$held: nothing is replaced without a lock, and there is no flock (util-linux) here, or the \
file system has none. Move away what is there, then try without --overwrite"
    return 1
}
take_hold() { # take_hold FILE: nobody else writes it, until drop_hold and the end of all children
    held=$1
    see_who_has_it
    flock -u 9 9<>/dev/null 2>/dev/null || { no_locks || return 0; }
    (: <"${held%/*}/") 2>/dev/null || die 73 "${held%/*}: cannot be read"
    exec 8<"${held%/*}/"
    lock -s 8 || return 0
    for try in 1 2 3 4 5 6 7 8 9; do # its holder may remove it between our opening and locking
        ! exists "$held.phd-hold" || { [ -f "$held.phd-hold" ] && [ ! -h "$held.phd-hold" ]; } ||
            die 73 "$held.phd-hold: not a plain file; remove it"
        (: >>"$held.phd-hold") 2>/dev/null || die 73 "$held.phd-hold: cannot be written"
        exec 9>>"$held.phd-hold"
        lock 9 || { rm -f "$held.phd-hold" && return 0; }
        hold_number=$(open_number 9 "$held.phd-hold")
        if [ "$(number "$held.phd-hold")" = "$hold_number" ]; then
            [ ! -s "$held.phd-hold" ] ||
                die 75 "$held.phd-hold: phd was replacing this disk and was interrupted. \
Let it finish: phd recover DISK, or restore again with phd"
            hold=$held.phd-hold && return 0
        fi
    done
    die 75 "$held.phd-hold: is removed again and again ($try times); try again later"
}
drop_hold() { # removes the lock file first, while it is still locked
    [ -z "$hold" ] || ! (still_held 2>/dev/null) || rm -f "$hold"
    hold=''
    exec 8<>/dev/null 9<>/dev/null
}
# shellcheck disable=SC2012 # a file's numbers, not names
stamps() { # prints what differs when a file was replaced or written; nothing if there is no file
    stat -c '%d %i %s %y' "$1" 2>/dev/null || ls -dnil "$1" 2>/dev/null | awk '{ print $1, $6, $7, $8, $9 }'
}
opened() { # whether a program or a loop device has it open, as far as this user may see
    set +f
    set -- "$1" /proc/[0-9]*/fd
    set -f
    inspected=$1
    shift
    [ -n "$(find -L "$@" -maxdepth 1 -samefile "$inspected" 2>/dev/null | sed q)$(losetup -j "$inspected" 2>/dev/null)" ]
}
unchanged() { [ "$(stamps "$1")" = "$2" ] && ! opened "$1"; } # unchanged FILE STAMPS
is_mine() { # whether the name still leads to our part file; no other file can have its inode while 6 is open
    [ -n "$part" ] && [ "$(number "$part")" = "$mine" ]
}
still_held() { [ -z "$hold" ] || [ "$(number "$hold")" = "$hold_number" ] || die 75 "$hold: was removed; try again"; }
lost() { die 75 "$1: was removed or replaced while it was written. Nothing was published; try again"; }

# ---- what the main process does ----

cleanup() {
    ! is_mine || rm -f "$part"
    [ -z "$private" ] || rm -f "$private.tmp"
    [ -z "$fifo$text" ] || rm -f ${fifo:+"$fifo"} ${text:+"$text"}
    drop_hold
    remove_made "${to%/*}"
}
stop() {
    trap '' INT TERM HUP
    [ -z "$worker" ] || kill "$worker" 2>/dev/null
    stty echo 2>/dev/null
    cleanup
    trap - EXIT # in mksh its status would become that of the script
    die 130 "Interrupted; nothing is left behind"
}
run() { # run STEP: in a worker, so that a signal is handled at once
    "$@" &
    worker=$!
    wait "$worker"
    status=$?
    worker=''
    [ "$status" = 0 ] || exit "$status"
}
name_files() { # sets, from --to, the disk, and the descriptor if it is a VMDK
    [ -n "$to" ] || die 2 "Where to? --to DIR/NAME.vmdk, or with another suffix for a raw image"
    whole_path
    name=${to##*/} disk=$to descriptor=''
    [ ! -d "$to" ] && [ -n "$name" ] || die 2 "$to is a folder: add the name of the disk"
    [ "$name" = "$(say "$name" | tr -d '\000-\037\177')" ] || die 73 "$to: control characters in the name"
    [ ${#name} -le 236 ] || die 73 "$to: the name is too long: with what is added to it while it is restored, 255 bytes are allowed"
    case $(say "$name" | tr '[:upper:]' '[:lower:]') in
    *-flat.vmdk) die 73 "$to: this names the data file of a VMDK; name its descriptor" ;;
    *.phd-part | *.phd-hold | *.phd-new | *.phd-redo | *.phd-applying | *.phd-replaced | *.phd-session | *.phd-overlay*.qcow2)
        die 73 "$to: this suffix is kept for unfinished files"
        ;;
    .vmdk | *\"*.vmdk) die 73 "$to: not a name for a VMDK" ;;
    *.vmdk)
        descriptor=$to stem=${to%?????}
        disk=$stem-flat${to#"$stem"}
        place stub || die 73 "$to: this archive holds no descriptor (section stub); restore to a raw name (DISK.img), or with phd"
        ;;
    esac
    make_folder "${to%/*}"
}
whole_path() { # makes the path of --to one that begins with / or ./ and has no // in it
    case $to in /*) ;; *) to=./$to ;; esac
    case $to in *//*) to=$(say "$to" | tr -s /) ;; esac
}
make_folder() { # make_folder FOLDER: makes it, and what is missing above it; those that are empty at the end are removed
    [ ! -d "$1/" ] || return 0
    case /$1/ in */../*) die 73 "$1: no such folder; make it first, or write the path without .." ;; esac
    make_folder "${1%/*}"
    mkdir "$1/" 2>/dev/null || { [ -d "$1/" ] && return 0; } || die 73 "$1: no such folder, and it cannot be made"
    [ -n "$made" ] || made=$1
}
remove_made() { # from the folder of the disk up to the first that was made
    while [ -n "$made" ] && rmdir "$1/" 2>/dev/null && [ "$1" != "$made" ]; do set -- "${1%/*}"; done
    made=''
}
may_write() { # may_write FILE...
    for file in "$@"; do
        [ ! -e "$file.lck" ] || die 73 "$file.lck: a VM holds this disk"
        [ -h "$file" ] || [ -e "$file" ] || continue
        [ -f "$file" ] && [ ! -h "$file" ] || die 73 "$file: not a plain file"
        [ -n "$overwrite" ] || die 73 "$file is there already: choose another name, or say --overwrite"
    done
}
replaceable() { # an existing VMDK is replaced only if its data is in the file that would be written
    [ -n "$descriptor" ] && [ -e "$descriptor" ] || return 0
    case $(dd if="$descriptor" bs=65536 count=1 status=none | tr -d '\000') in
    *"\"${disk##*/}\""*) ;;
    *) die 73 "$descriptor: not a VMDK with its data in ${disk##*/}; move it away first" ;;
    esac
}
not_half_done() { # exit 75 if phd left an unfinished file, or a guest runs from a backup of this disk
    for kind in session overlay.qcow2 overlay-finishing.qcow2; do
        file=$disk.phd-$kind
        ! exists "$file" || die 75 "$file: an instant session of phd uses this disk. End it first: phd instant finish, or discard"
    done
    for file in "$disk" ${descriptor:+"$descriptor"}; do
        for kind in new redo applying; do
            ! exists "$file.phd-$kind" || die 75 "$file.phd-$kind: phd has not finished this disk. Let it finish first: by \
its job in the queue, or by phd restore DELTA --to $to --overwrite"
        done
    done
}
no_part() { # no_part FILE...
    for file in "$@"; do
        ! exists "$file.phd-replaced" || die 73 "$file.phd-replaced: this was to be replaced by a restore that was cut short. \
If $file is there, remove it, else rename it back"
        ! exists "$file.phd-part" ||
            die 73 "$file.phd-part: another restore writes it, or one was cut short. If none runs, remove it"
    done
}
in_part() { # in_part FILE STEP...: makes the part file of FILE and runs the step with it open as 6
    no_part "$1"
    begun='' links=''
    set -C
    begin "$@" 6>"$1.phd-part"
    [ -n "$begun" ] || die 73 "$1.phd-part: cannot be written"
}
begin() {
    set +C
    begun=yes part=$1.phd-part
    mine=$(open_number 6 "$part")
    is_mine || lost "$part"
    private=${part%/*}/.phd-$(od -A n -N 8 -t x1 /dev/urandom 2>/dev/null | tr -d ' \n')$$
    ln "$part" "$private.tmp" 2>/dev/null && [ "$(number "$private.tmp")" = "$mine" ] && links=yes
    rm -f "$private.tmp"
    shift
    "$@"
}
set_size() { # gives the part file its size, through the open descriptor
    open_part=$part
    [ ! -e /proc/self/fd/6 ] || open_part=/proc/self/fd/6 # leads to the open file, whatever has its name now
    conv_full=notrunc way=$descriptors/4
    dd if=/dev/null of="$open_part" bs=1 seek="$disk_size" status=none 6>&6 || die 73 "$part: cannot be $disk_size bytes long"
    # Blocks of zeros need not be written where zeros are read already: in holes, or in space that was allocated at once.
    if [ -n "$thin" ] || fallocate -l "$disk_size" "$open_part" 6>&6 2>/dev/null; then
        ! dd if=/dev/null conv=sparse status=none 2>/dev/null || conv_full=notrunc,sparse
    fi
    case ${told:-no}${KSH_VERSION-} in # in ksh93 pipes are sockets, which have no name
    no* | *93*)
        way=$part.fifo
        rm -f "$way" # a script that was killed may have left it
        mkfifo "$way" || die 73 "$way: this file system knows no named pipes; mount /proc and use another shell than ksh93"
        fifo=$way
        ;;
    esac
}
render() { # render FLAT: prints the descriptor that was made with the archive, for a data file of this name
    section stub | while IFS= read -r line; do
        case $line in 'RW '*) line="${line%%\"*}\"$1\"${line##*\"}" ;; esac
        say "$line"
    done
    [ -z "$thin" ] || say 'ddb.thinProvisioned = "1"'
}
give() { # give FILE NAME: gives the file a name that nothing has; else false
    wanted=$(number "$1")
    if [ -n "$links" ]; then
        ln "$1" "$2" 2>/dev/null && [ "$(number "$2")" = "$wanted" ] && rm -f "$1"
    else
        ! exists "$2" && mv -n "$1" "$2" 2>/dev/null && [ "$(number "$2")" = "$wanted" ]
    fi
}
hide_old() { # hide_old NAME STAMPS: renames it to NAME.phd-replaced if it has these stamps, before and after, and is not open
    unchanged "$1" "$2" && ! exists "$1.phd-replaced" && mv -f "$1" "$1.phd-replaced" || return 1
    ! unchanged "$1.phd-replaced" "$2" || return 0
    put_back "$1"
    return 1
}
put_back() { # put_back NAME: renames NAME.phd-replaced back, if nothing has the name now
    ! exists "$1.phd-replaced" || give "$1.phd-replaced" "$1" || say "$1 was taken by somebody; the old one is $1.phd-replaced" >&2
}
replace() { # replace NEW NAME STAMPS: NEW gets the name of a file with these stamps, or a free name if there are none
    [ -z "$3" ] || hide_old "$2" "$3" || return 1
    if give "$1" "$2"; then return 0; fi
    [ -z "$3" ] || put_back "$2"
    return 1
}
make_private() { # gives the part file a name that only we know, and checks that it is ours
    is_mine || lost "$part"
    still_held
    trap '' INT TERM HUP # what follows is not interrupted
    visible=$part
    mv -f "$part" "$private-new.tmp" || { part='' && lost "$visible"; }
    part=$private-new.tmp
    if ! is_mine; then # it is another file: give its name back
        ! exists "$part" || give "$part" "$visible" || say "$visible is $part now" >&2
        part=''
        lost "$visible"
    fi
}
publish() { # data first, descriptor last: a descriptor makes a disk usable, so the whole disk must be there before it
    is_mine || lost "$part"
    if [ -n "$descriptor" ]; then
        text=$private-text.tmp
        render "${disk##*/}" >"$text" && dd if=/dev/null conv=notrunc,fsync status=none >>"$text" ||
            die 73 "$text: cannot be written"
    fi
    not_half_done
    may_write "$disk" ${descriptor:+"$descriptor"}
    make_private
    if [ -n "$descriptor" ]; then
        [ -n "$seen_text" ] || ! exists "$descriptor" || taken "$descriptor"
        [ -z "$seen_text" ] || hide_old "$descriptor" "$seen_text" || taken "$descriptor"
    fi
    if ! replace "$part" "$disk" "$seen"; then
        [ -z "$descriptor" ] || put_back "$descriptor"
        taken "$disk"
    fi
    part=''
    if [ -n "$descriptor" ]; then
        give "$text" "$descriptor" || die 75 "$descriptor: cannot get its name: somebody made one or removed ours. \
${disk##*/} is restored and verified; stub --to $to makes a descriptor for it"
        text=''
    fi
    [ "$(number "$disk")" = "$mine" ] || taken "$disk"
    rm -f "$disk.phd-replaced" ${descriptor:+"$descriptor.phd-replaced"}
    sync "${to%/*}/" 2>/dev/null
    say "$to: restored and verified, $disk_size bytes"
    [ -z "$left_out" ] || say "left out of the backup of this VM: $left_out"
}
taken() { die 75 "$1: was made, changed, moved or opened by somebody meanwhile. It is left as it is; try again"; }
fill_part() {
    set_size
    # shellcheck disable=SC2094 # two more offsets in one file: for the runs, for the check
    run fill 7<>"$open_part" 4<"$open_part"
    publish
}
restore() {
    name_files
    take_hold "$disk"
    seen=$(stamps "$disk") seen_text=''
    [ -z "$descriptor" ] || seen_text=$(stamps "$descriptor")
    not_half_done
    no_part "$disk" ${descriptor:+"$descriptor"}
    may_write "$disk" ${descriptor:+"$descriptor"}
    replaceable
    [ -z "$seen" ] || ! opened "$disk" || die 75 "$disk: a program has it open. Nothing was changed; try again when it is closed"
    [ "$blocks_full" = 0 ] || find_full
    run check_delta
    room=$(df -Pk "${to%/*}/" 2>/dev/null | awk -v n="$disk_size" 'END { if (NF >= 4 && $4 * 1024 < n) print $4 * 1024 }')
    [ -n "$thin" ] || [ -z "$room" ] || die 73 "${to%/*}: not enough space: $disk_size bytes needed, $room bytes free"
    in_part "$disk" fill_part
}
verify_delta() { run check_delta && say "$me: every section has its SHA-256"; }
verify_full() { find_full && run check_full && say "$full: has its SHA-256, and is the Full of this Delta"; }
verify() {
    verify_delta
    if [ "$blocks_full" = 0 ]; then say "No block comes from the Full: it is not needed"; else find_full; fi
    see_descriptors
    run prove
    [ "$blocks_full" = 0 ] || say "$full: has its SHA-256, and is the Full of this Delta"
    say "The disk that they give is right: each 16 MiB of it was compared"
}
put_text() { # put_text FILE COMMAND...: checks this archive, then writes what the command prints
    seen=$(stamps "$1") to=$1
    no_part "$1"
    may_write "$1"
    run check_delta
    in_part "$1" write_text "$@"
    say "$to: written"
}
write_text() {
    shift
    { "$@" && dd if=/dev/null conv=notrunc,fsync status=none; } >&6 2>/dev/null || die 73 "$to: cannot be written"
    make_private
    replace "$part" "$to" "$seen" || taken "$to"
    rm -f "$to.phd-replaced"
    part=''
}
restore_vmx() {
    place vmx || die 65 "$me: it holds no VMX; the disk was backed up without its VM"
    [ -n "$to" ] || die 2 "Where to? --to DIR"
    whole_path
    case $to in
    *.vmx) ;;
    *) [ -e "$to" ] && [ ! -d "$to" ] || to=$to/$(file_name "$vm" vm).vmx ;;
    esac
    [ ! -d "$to" ] || to=$to/$(file_name "$vm" vm).vmx
    make_folder "${to%/*}"
    take_hold "$to"
    put_text "$to" section vmx
}
vmx_lies_in() { # vmx_lies_in FOLDER: whether the VMX of this archive is there, under any name
    set +f
    for same in "$1"/*.vmx; do
        [ -f "$same" ] && [ "$(sha256 <"$same")" = "$(section vmx | sha256)" ] && set -f && return 0
    done
    set -f
    return 1
}
write_stub() {
    name_files
    [ -n "$descriptor" ] || die 2 "A stub is called NAME.vmdk"
    take_hold "$disk"
    not_half_done
    [ ! -e "$disk" ] || is_size "$disk" "$disk_size" || die 73 "$disk: not this disk, which has $disk_size bytes"
    put_text "$descriptor" render "${disk##*/}"
}
# file_name TEXT DEFAULT: prints a text of the header as a name for a file
file_name() { name=$(say "$1" | sed 's,[/"],_,g; s/^[.-]*//') && say "${name:-$2}"; }

# ---- what a person sees ----

moment() { date -u -d "@$1" '+%Y-%m-%d %H:%M:%S UTC' 2>/dev/null || say "$1 seconds since 1970, UTC"; }
summary() {
    say "This is a Delta backup made by phd. It restores itself.

  virtual machine   $vm   UUID $(field uuid)
  disk              $vmdk   SCSI id $(field scsi)   $disk_size bytes
  backup made       $(moment "$(field time)")
  needs the Full    $full_name
                    of $(moment "$(field full-time)"), $full_size bytes, id ${full_id:-none}"
    [ "$blocks_full" != 0 ] || say "                    (no block of this disk comes from it)"
    [ -z "$left_out" ] || say "  without           $left_out of this VM, left out of the backup"
    [ -z "$damaged" ] || say "$damaged"
}
help() {
    operands() { place "$1" && say "skip=$offset count=$length"; }
    place frames && [ "$length" = 0 ] && none='s/^\(#h *\)dd .*@FRAMES@.*/\1: > CHANGED/' || none=''
    sed -n -e "/^#= sha256 /q; $none; s/@SIZE@/$disk_size/; s/@FRAMES@/$(operands frames)/; s/@RUNS@/$(operands runs)/" \
        -e "s/@SEGMENTS@/$(operands segments)/; s/^#h \{0,1\}//p" "$me"
}
ask() { # ask QUESTION DEFAULT
    printf '%s [%s]: ' "$1" "$2" >&2
    IFS= read -r answer || exit 0
    answer=${answer:-$2}
}
agreed() { ask "$1 y or n" "$2" && [ "${answer#[Yy]}" != "$answer" ]; }
act() (trap cleanup EXIT && trap stop INT TERM HUP && "$@") # in a subshell: an error ends this one act, not the menu
ask_full() {
    [ -n "$full" ] || look_for_full || say "The Full was not found beside this file nor next door."
    ask "Full: path or URL" "${full:-none}"
    full=$answer
}
menu_restore() {
    [ "$blocks_full" = 0 ] || ask_full
    name=$(file_name "$vmdk" disk.img)
    place stub || name=${name%.*}.img
    ask "Restore to" "./$name"
    to=$answer overwrite='' thin=''
    if [ -e "$to" ]; then agreed "$to is there. Replace it?" n && overwrite=yes || return; fi
    agreed "Leave holes for zeros (thin)?" n && thin=yes
    agreed "Start?" y && act restore || return
    choice=q
    place vmx || return
    ! vmx_lies_in "${to%/*}" || { say "$same: the VMX of this VM is there already" && return; }
    agreed "Restore the VMX too, as ${to%.*}.vmx?" y || return
    to=${to%.*}.vmx overwrite='' && act restore_vmx
}
menu() {
    choice=1
    summary
    while :; do
        say "
  1  restore the VMDK
  2  verify the Full
  3  verify the Delta
  4  restore the VMX
  5  write a stub (VMDK descriptor)
  6  show the header
  h  help
  q  quit
"
        ask "Choose" "$choice"
        overwrite='' thin=''
        case $answer in
        1) menu_restore ;;
        2) ask_full && act verify_full ;;
        3) act verify_delta ;;
        4) ask "Folder for the VMX" . && to=$answer && act restore_vmx ;;
        5) ask "Stub" "./$(file_name "${vmdk%.*}" disk).vmdk" && to=$answer && act write_stub ;;
        6) say "$header" ;;
        [hH]*) help ;;
        [qQ]*) exit 0 ;;
        esac
    done
}

command=${1-}
[ $# = 0 ] || shift
while [ $# -gt 0 ]; do
    case $1 in
    --thin) thin=yes ;;
    --overwrite) overwrite=yes ;;
    --to) [ $# -ge 2 ] && to=$2 && shift || die 2 "--to needs a value" ;;
    --full) [ $# -ge 2 ] && full=$2 && shift || die 2 "--full needs a value" ;;
    *) die 2 "$1: unknown; sh $me --help tells more" ;;
    esac
    shift
done
# shellcheck disable=SC2046 # five words
set -- $(awk -v b="$block" -v n="$disk_size" -v f="$full_disk_size" -v frame="$frame" '
    function hex(n, bytes) { while (bytes--) { printf "%02x", n % 256; n = int(n / 256) } }
    BEGIN { own = f + 0 < n + 0 ? f : n
        printf "%.0f %.0f %d %.0f ", own, f - own, b < 67108864 ? 67108864 / b : 1, n - own; hex(f, 8); hex(frame, 4) }')
full_share=$1 beyond=$2 batch=$3 grown=$4 full_sizes=$5 # bytes in the disk and beyond it; blocks in 64 MiB; bytes; as in PI
[ "$blocks_full" != 0 ] || full_share=0 grown=$disk_size
trap cleanup EXIT
trap stop INT TERM HUP
case $command in
'' | info | help | -h | --help) ;;
*) is_size "$me" "$file_size" || die 65 "$me: not $file_size bytes long: truncated, or something was appended. Use another copy." ;;
esac
case $command in
restore | verify) "$command" ;;
verify-full) verify_full ;;
vmx) restore_vmx ;;
stub) write_stub ;;
info) summary && say "$header" ;;
help | -h | --help) help ;;
'') if [ -t 0 ] && [ -t 1 ]; then menu; else summary && help; fi ;;
*) die 2 "$command: unknown; sh $me --help tells more" ;;
esac
exit
#h
#h   sh THIS_FILE                     a menu, on a terminal
#h   sh THIS_FILE restore --to DIR/NAME.vmdk [--full PATH_OR_URL] [--thin] [--overwrite]
#h   sh THIS_FILE verify [--full PATH_OR_URL]        every byte of this file, of its Full, and of the disk that they give
#h   sh THIS_FILE verify-full [--full PATH_OR_URL]
#h   sh THIS_FILE vmx --to DIR        the VM's configuration, as it was
#h   sh THIS_FILE stub --to NAME.vmdk     a VMDK descriptor for NAME-flat.vmdk
#h   sh THIS_FILE info                what this is, and its header
#h
#h The Full is looked for beside this file and in the folders next door. PATH_OR_URL is a file, or ftp://, ftps://, http://
#h or https:// (curl, wget or lynx), or sftp:// (ssh); a password comes from ~/.netrc, or is asked for on a terminal.
#h NAME.vmdk makes a descriptor and NAME-flat.vmdk; any other suffix makes a raw image.
#h --overwrite needs flock (util-linux). A disk that changed meanwhile, or that a program has open, is not replaced.
#h Exit codes: 0 done and verified, 2 usage, 65 bad data, 69 no Full to be had, 73 cannot write there, 75 try again (the disk
#h is in use, or another restore is at work on it), 130 interrupted.
#h
#h By hand, with the Full beside this file (dd of coreutils or busybox):
#h   1. zcat FULL > DISK-flat.vmdk
#h   2. dd if=/dev/null of=DISK-flat.vmdk bs=1 seek=@SIZE@
#h   3. the changed bytes, one run after another:
#h        dd if=THIS_FILE bs=64k iflag=skip_bytes,count_bytes @FRAMES@ | gzip -dc > CHANGED
#h   4. where they belong ("offset length delta|zero", in bytes), to be copied in order:
#h        dd if=THIS_FILE bs=64k iflag=skip_bytes,count_bytes @RUNS@ | gzip -dc > RUNS
#h        at=0; while read -r offset length kind; do
#h          if [ "$kind" = delta ]; then
#h            dd if=CHANGED of=DISK-flat.vmdk bs=64k conv=notrunc iflag=skip_bytes,count_bytes oflag=seek_bytes \
#h               skip=$at seek=$offset count=$length; at=$((at + length))
#h          else
#h            dd if=/dev/zero of=DISK-flat.vmdk bs=64k conv=notrunc iflag=count_bytes oflag=seek_bytes seek=$offset count=$length
#h          fi
#h        done < RUNS
#h   5. each 16 MiB of the disk has its SHA-256 ("number digest"); what is not in this list is all zero:
#h        dd if=THIS_FILE bs=64k iflag=skip_bytes,count_bytes @SEGMENTS@ | gzip -dc
