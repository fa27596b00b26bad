# What this is and how to restore it. Only `sh THIS_FILE` for a person runs this text; phd itself never does.
fact() { sed -n "1,/^#: end\$/s/^#: $1=//p" "$0" | head -n 1; }
place() { sed -n "1,/^#: end\$/s/^#: section $1 \\([0-9]*\\) \\([0-9]*\\) .*/\\$2/p" "$0" | head -n 1; }
if [ ! -f "$0" ]; then
    echo "Run this file by its name: sh ./NAME.phd" >&2
    exit 2
fi
full=$(fact full-name)
cat <<EOF
This is a Delta backup made by phd.

  virtual machine   $(fact vm)   UUID $(fact uuid)
  disk              $(fact vmdk)   SCSI id $(fact scsi)   $(fact disk-size) bytes
  backup made       $(fact time)   (seconds since 1970, UTC)
  needs the Full    $full
                    $(fact full-size) bytes, SHA-256 $(fact full-sha256)

Restore it with phd:
  phd restore THIS_FILE --to /path/DISK.vmdk

Restore it by hand, with the Full beside it, gzip, head, tail and dd:
  1. zcat "$full" > DISK-flat.vmdk
  2. truncate -s $(fact disk-size) DISK-flat.vmdk
  3. the changed bytes, one run after another:
       tail -c +$(( $(place frames 1) + 1 )) THIS_FILE | head -c $(place frames 2) | gzip -dc > CHANGED
  4. where they belong ("offset length delta|zero", in bytes):
       tail -c +$(( $(place runs 1) + 1 )) THIS_FILE | head -c $(place runs 2) | gzip -dc > RUNS
       Copy each "delta" run from CHANGED in order; write zeros over each "zero" run:
       at=0; while read -r offset length kind; do
         if [ "\$kind" = delta ]; then
           dd if=CHANGED of=DISK-flat.vmdk bs=512 conv=notrunc iflag=skip_bytes,count_bytes oflag=seek_bytes \\
              skip=\$at seek=\$offset count=\$length; at=\$((at + length))
         else
           dd if=/dev/zero of=DISK-flat.vmdk bs=512 conv=notrunc iflag=count_bytes oflag=seek_bytes seek=\$offset count=\$length
         fi
       done < RUNS
  5. check each 16 MiB segment of the disk against its SHA-256 ("number digest"):
       tail -c +$(( $(place segments 1) + 1 )) THIS_FILE | head -c $(place segments 2) | gzip -dc
EOF
exit 0
