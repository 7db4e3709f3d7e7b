#!/bin/bash
# Warn about file systems that fill up and show what takes the room.

LIMIT=85
TOP=8
WHERE=$HOME
while getopts "l:t:w:" opt; do
  case "$opt" in
    l) LIMIT="$OPTARG" ;;
    t) TOP="$OPTARG" ;;
    w) WHERE="$OPTARG" ;;
    *) echo "disk_report.sh [-l PERCENT] [-t ENTRIES] [-w FOLDER]"; exit 1 ;;
  esac
done

bar() {
  local filled=$(( $1 / 5 )) text=""
  for _ in $(seq 20); do
    if (( filled-- > 0 )); then text+="#"; else text+="."; fi
  done
  echo "$text"
}

full=0
echo "File systems on $(hostname -s), $(date '+%A %H:%M')"
while read -r percent free mount; do
  percent=${percent%\%}
  mark=" "
  if [ "$percent" -ge "$LIMIT" ]; then
    mark="!"
    full=$((full + 1))
  fi
  printf "%s %s %3d%%  %8s free  %s\n" "$mark" "$(bar "$percent")" "$percent" "$free" "$mount"
done < <(df -hP -x tmpfs -x devtmpfs 2>/dev/null | awk 'NR > 1 { print $5, $4, $6 }')

echo
echo "Largest entries below $WHERE"
du -xk --max-depth=1 -- "$WHERE" 2>/dev/null \
  | sort -rn \
  | awk -v top="$TOP" '
      NR == 1 { whole = $1; next }
      NR <= top + 1 {
          size = $1; $1 = ""
          printf "%9.1f MiB %5.1f%% %s\n", size / 1024, 100 * size / (whole ? whole : 1), $0
      }'

# The exit status tells cron whether mail is worth sending.
exit $(( full > 0 ))
