# shellcheck shell=sh disable=SC2034 # what is set here is used by those that read it
# What pre-backup, post-backup and vcb-run have in common; read by them, never run. The contract is docs/integrations.md.
# No eval anywhere: names of VMs and of jobs are data that strangers chose.

me=${0##*/}
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# One line on standard error, whatever the text holds.
say() { printf '%s: %s\n' "$me" "$(printf '%s' "$1" | tr '\n\t' '  ')" >&2; }
fail() {
  say "$2"
  exit "$1"
}

# The settings a daemon's empty environment cannot bring: lines NAME=VALUE, taken as they stand. The environment wins.
read_settings() {
  settings=${VCB_SCRIPTS_CONF:-/etc/vcb/scripts.conf}
  if [ ! -r "$settings" ]; then
    [ -z "${VCB_SCRIPTS_CONF:-}" ] || fail 3 "the settings $settings cannot be read"
  else
    while IFS= read -r line || [ -n "$line" ]; do
      value=${line#*=}
      case $line in
      '' | '#'*) ;;
      VCB_COMMAND=*) : "${VCB_COMMAND:=$value}" ;;
      VCB_CONFIG=*) : "${VCB_CONFIG:=$value}" ;;
      VCB_STATE_DIR=*) : "${VCB_STATE_DIR:=$value}" ;;
      VCB_MOUNT_ROOT=*) : "${VCB_MOUNT_ROOT:=$value}" ;;
      VCB_SCRIPTS_STATE=*) : "${VCB_SCRIPTS_STATE:=$value}" ;;
      VCB_MAX_HOLD=*) : "${VCB_MAX_HOLD:=$value}" ;;
      VCB_TYPE=*) : "${VCB_TYPE:=$value}" ;;
      VCB_WAIT=*) : "${VCB_WAIT:=$value}" ;;
      VCB_LIMIT=*) : "${VCB_LIMIT:=$value}" ;;
      VCB_QUIESCE=*) : "${VCB_QUIESCE:=$value}" ;;
      VCB_READ_ALL=*) : "${VCB_READ_ALL:=$value}" ;;
      VCB_COVER=*) : "${VCB_COVER:=$value}" ;;
      *) fail 3 "$settings has the line ${line%%=*}, which is no setting of the scripts" ;;
      esac
    done <"$settings"
  fi
  : "${VCB_COMMAND:=vcb}" "${VCB_MOUNT_ROOT:=/var/lib/vcb/mnt}" "${VCB_SCRIPTS_STATE:=/run/vcb-scripts}"
  [ -n "${VCB_CONFIG:-}" ] || [ ! -r /etc/vcb/vcb.yaml ] || VCB_CONFIG=/etc/vcb/vcb.yaml
  [ -z "${VCB_CONFIG:-}" ] || export VCB_CONFIG
  [ -z "${VCB_STATE_DIR:-}" ] || export VCB_STATE_DIR
}

# Options and VCB_* to the variables vm, dir, type, product, job, run, token, result, owner_pid, owners, letters; what is left of the
# arguments (the command of vcb-run) stays behind "left" arguments. Dies with 2.
read_options() {
  vm=${VCB_VM:-} dir=${VCB_DIR:-} type=${VCB_TYPE:-} product=${VCB_PRODUCT:-generic} job=${VCB_JOB:-} run=${VCB_RUN:-} token=${VCB_TOKEN:-}
  wait=${VCB_WAIT:-} limit=${VCB_LIMIT:-} hold=${VCB_MAX_HOLD:-} quiesce=${VCB_QUIESCE:-} read_all=${VCB_READ_ALL:-}
  owner_pid=${VCB_OWNER_PID:-} follows='' all=$#
  while [ $# -gt 0 ]; do
    case $1 in
    --) shift && break ;;
    --post-follows-failure) follows=1 && shift && continue ;;
    --read-all) read_all=1 && shift && continue ;;
    --*) [ $# -gt 1 ] || fail 2 "$1 needs a value" ;;
    *) break ;;
    esac
    case $1 in
    --vm) vm=$2 ;;
    --dir) dir=$2 ;;
    --type) type=$2 ;;
    --product) product=$2 ;;
    --job) job=$2 ;;
    --run) run=$2 ;;
    --token) token=$2 ;;
    --result) : ;; # told to the log of the product only; what post does is the same for every result
    --wait) wait=$2 ;;
    --limit) limit=$2 ;;
    --max-hold) hold=$2 ;;
    --quiesce) quiesce=$2 ;;
    --owner-pid) owner_pid=$2 ;;
    *) fail 2 "$1 is no option of $me" ;;
    esac
    shift 2
  done
  left=$#
  used=$((all - left))
  case $product in '' | *[!a-z0-9-]*) fail 2 'the product is not named in small letters' ;; esac
  for number in "${limit:-0}" "${wait:-0}" "${owner_pid:-0}"; do
    case $number in '' | *[!0-9]*) fail 2 '--limit, --wait and --owner-pid are whole numbers' ;; esac
  done
  name_vm
}

# A job of VCB's forms VM-fullVM and VM-C-D says the VM and what is wanted of it, where no --vm does.
name_vm() {
  letters=''
  if [ -z "$vm" ]; then
    vm=$job
    case $job in
    *-fullVM) vm=${job%-fullVM} type=${type:-'disk'} ;;
    *) while :; do
      case $vm in ?*-[A-Za-z]) letters="${vm##*-} $letters" vm=${vm%-?} ;; *) break ;; esac
    done ;;
    esac
  fi
  [ -n "$vm" ] || fail 2 'no VM is named: --vm NAME, or --job with one of the forms NAME-fullVM and NAME-C-D'
  ! printf '%s' "$vm$job$run$dir" | LC_ALL=C grep -q '[[:cntrl:]]' || fail 2 'a name has a control character'
  [ "$(printf '%s\n' "$vm$job$run$dir" | wc -l)" -eq 1 ] || fail 2 'a name has more than one line'
  [ -n "$type" ] || type='file'
  if [ -z "$dir" ]; then
    case $vm in . | .. | */*) fail 2 "a directory cannot be named after the VM $vm: say --dir" ;; esac
    dir=$VCB_MOUNT_ROOT/$vm
  fi
  case $dir in /*) ;; *) fail 2 "the directory $dir is not absolute" ;; esac
}

# The VM as a selection that means exactly this name: every character with a meaning is made literal. A moref: or uuid: stays what it is.
selection() {
  case $vm in
  moref:* | uuid:*) printf '%s' "$vm" ;;
  *) printf 'name:' && printf '%s' "$vm" | LC_ALL=C sed -e 's/[][\\,*?! ]/\\&/g' -e "s/$(printf '\302\240')/\\\\&/g" -e "s/$(printf '\343\200\200')/\\\\&/g" ;;
  esac
}

# ---- processes

# Parent and start time (clock ticks since boot) of process $1, "" when it is gone or only a zombie.
process_of() {
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # The name in parentheses may itself hold blanks and parentheses.
  set -f
  # shellcheck disable=SC2086 # fields
  set -- ${line##*) }
  set +f
  case ${1:-} in Z | X | '') return 0 ;; esac
  printf '%s %s' "$2" "${20}"
}

# Topmost ancestor whose command is one of the names that module.json gives as "owners"; "parent" means who called us.
# Topmost, because hooks run in shells that have the same command line and end at once. To the variables owner_pid and owner_start.
# The scripts set here: the directory they are in.
find_owner() {
  owner_start=''
  if [ -z "$owner_pid" ]; then
    # shellcheck disable=SC2154
    names=$(LC_ALL=C sed -n 's/^ *"owners": *\[\(.*\)\],*$/\1/p' "$here/../$product/module.json" 2>/dev/null | tr -d '",')
    case " $names " in *' parent '*) owner_pid=$PPID ;; esac
    at=$PPID
    while [ -n "$names" ] && [ "$at" -gt 1 ]; do
      is_named "$at" "$names" && owner_pid=$at
      up=$(process_of "$at")
      at=${up%% *}
      [ -n "$at" ] || break
    done
  fi
  [ -n "$owner_pid" ] || return 0
  up=$(process_of "$owner_pid")
  [ -n "$up" ] || fail 11 "the process $owner_pid that is to own the lease is gone"
  owner_start=${up#* }
}

# Whether one of the first four words of the command line of process $1 is one of the names $2: "perl -w /usr/bin/rsnapshot" is rsnapshot.
is_named() {
  tr '\0\n' '\n ' <"/proc/$1/cmdline" 2>/dev/null | head -n 4 | {
    while IFS= read -r word; do
      case " $2 " in *" ${word##*/} "*) exit 0 ;; esac
    done
    exit 1
  }
}

owner_lives() {
  [ -n "$owner_pid" ] || return 0
  up=$(process_of "$owner_pid")
  [ "${up#* }" = "$owner_start" ]
}

# Whether who called us is still there: a process whose parent died gets another.
caller_lives() {
  up=$(process_of "$$")
  [ "${up%% *}" = "$PPID" ] && owner_lives
}

# ---- the state of the scripts: one file a lease, in a directory nobody else may use

open_state() {
  state=$VCB_SCRIPTS_STATE
  umask 077
  mkdir -p "$state" 2>/dev/null || fail 3 "the directory $state cannot be made"
  [ -n "$(find "$state" -prune -type d -user "$(id -u)" -perm 700 2>/dev/null)" ] ||
    fail 3 "$state is not a directory of user $(id -un) that is closed to others (mode 700)"
  [ -n "$run" ] || run=${owner_start:+owner-$owner_pid-$owner_start}
  key=$(printf '%s\n%s\n%s' "$product" "$vm" "$run" | sha256sum)
  key=${key%% *}
}

# Value of the field $2 in the state file $1.
field() { LC_ALL=C sed -n "s/^$2=//p" "$1" 2>/dev/null | head -n 1; }

# $1 = lease. Whole or not at all, and on the disk before pre-backup says that all is there.
write_state() {
  printf 'lease=%s\nvm=%s\nproduct=%s\nrun=%s\ndir=%s\nowner=%s %s\n' "$1" "$vm" "$product" "$run" "$dir" "$owner_pid" "$owner_start" \
    >"$state/.$key.$$" && sync "$state/.$key.$$" && mv -f "$state/.$key.$$" "$state/$key"
}

# ---- the directory while nothing is shown in it

# A FUSE mount that nobody serves, for a user who is nobody: the kernel refuses everybody else, root too, with "Permission denied". Needs no process.
COVER=vcb-nothing-shown

is_covered() { [ "$(findmnt --noheadings --output SOURCE --mountpoint "$dir" 2>/dev/null)" = "$COVER" ]; }

# With VCB_COVER=1, when nothing is in the directory: a product that reads it all the same gets an error, not an empty VM. 1 when it cannot be done.
cover() {
  [ "${VCB_COVER:-0}" != 0 ] && ! is_covered && [ -d "$dir" ] && [ -z "$(ls -A "$dir")" ] || return 0
  options=rootmode=40000,user_id=65534,group_id=65534,ro,nosuid,nodev,noexec
  # The connection ends with this subshell.
  (exec 3<>/dev/fuse && exec mount -i -t fuse -o "fd=3,$options" "$COVER" "$dir") >/dev/null 2>&1 && return 0
  say "$vm: $dir could not be covered (VCB_COVER needs root and /dev/fuse), so it looks empty while nothing is shown"
  return 1
}

uncover() {
  ! is_covered || umount -i -c "$dir" 2>/dev/null || fail 3 "the cover of $dir cannot be taken away"
}

# ---- the command

# Runs vcb with standard output in $state/.out.$$, errors in $state/.err.$$, no other descriptor of ours; its status in the variable status.
# $1 = heed: TERM, INT and HUP go on to it as TERM, vcb undoes what it did, and we wait for that. $1 = finish: they change nothing.
vcb() {
  heed=$1
  shift
  command -v "$VCB_COMMAND" >/dev/null 2>&1 || { status=3 && said="the program $VCB_COMMAND is not on this machine" && return 0; }
  stopped=''
  child=''
  trap 'stopped=1; [ "$heed" = finish ] || [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT HUP
  "$@" </dev/null >"$state/.out.$$" 2>"$state/.err.$$" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
  child=$!
  [ -z "$stopped" ] || [ "$heed" = finish ] || kill -TERM "$child" 2>/dev/null
  while :; do
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap - TERM INT HUP
  said=$(head -c 2000 "$state/.err.$$")
  # With --json an error stands in the document.
  [ "$status" -eq 0 ] || [ -n "$said" ] || said=$(head -c 4000 "$state/.out.$$" | LC_ALL=C sed -n 's/.*"message": *"\(\([^"\\]\|\\.\)*\)".*/\1/p' | sed 's/\\\(.\)/\1/g')
  case $status in
  [0-9] | 1[0-2]) ;;
  124 | 137) [ -n "${timed:-}" ] && status=11 && said="it was not ready within $timed s and has been undone" || status=1 ;;
  126 | 127) status=3 said="the program $VCB_COMMAND cannot be run" ;;
  143) status=11 ;;
  *) status=1 ;;
  esac
}

# Mounts; the lease to the variable lease. On an error everything is undone, by vcb or here, and the script ends with its status.
take_lease() {
  lease='' timed=''
  uncover
  # It stays when the lease is over: rsnapshot and others look at it before they call us.
  (umask 022 && mkdir -p "$dir") 2>/dev/null || fail 3 "the directory $dir cannot be made"
  set -- "$VCB_COMMAND" mount "$(selection)" "$dir" --type "$type" --job "${job:-$product $vm}" --json
  [ -z "$owner_pid" ] || set -- "$@" --owner-pid "$owner_pid"
  [ -z "$hold" ] || set -- "$@" --max-hold "$hold"
  [ -z "$wait" ] || set -- "$@" --wait "${wait}s"
  [ -z "$quiesce" ] || set -- "$@" --quiesce "$quiesce"
  [ "${limit:-0}" -eq 0 ] || { timed=$limit && set -- timeout -k 60 "$limit" "$@"; }
  vcb heed "$@"
  timed=''
  # Also of a command that a signal ended just after it had told its lease.
  [ ! -f "$state/.out.$$" ] || lease=$(tr ',{' '[\n*]' <"$state/.out.$$" | LC_ALL=C sed -n 's/^[[:space:]]*"lease"[[:space:]]*:[[:space:]]*"\([A-Za-z0-9._:-]*\)".*/\1/p' | head -n 1)
  rm -f "$state/.out.$$" "$state/.err.$$"
  if [ "$status" -ne 0 ]; then
    [ "$status" -ne 6 ] || [ -z "$follows" ] || : >"$state/$key.rejected"
    [ -z "$lease" ] || give_up "$status" "${said:-vcb mount ended with $status}"
    # A rejected duplicate must not cover what the other job is about to show.
    failed=$status
    [ "$failed" -eq 6 ] || cover || :
    fail "$failed" "$vm: ${said:-vcb mount ended with $failed}"
  fi
  [ -n "$lease" ] || give_up 1 "vcb mount named no lease"
  [ -z "$stopped" ] || give_up 11 'stopped by a signal'
  caller_lives || give_up 11 'the caller has gone in the meantime'
  for letter in $letters; do
    letter=$(printf '%s' "$letter" | tr '[:lower:]' '[:upper:]')
    [ -d "$dir/letters/$letter" ] || give_up 5 "the VM has no volume $letter: that can be shown"
  done
  write_state "$lease" || give_up 3 "the state in $state could not be written"
  rm -f "$state/$key.rejected"
}

# Undoes a mount that nobody will be told of, and ends.
give_up() {
  vcb finish "$VCB_COMMAND" unmount "${lease:-$dir}"
  rm -f "$state/.out.$$" "$state/.err.$$" "$state/.$key.$$"
  [ "$status" -eq 0 ] || [ "$status" -eq 9 ] || say "$vm: could not be undone: ${said:-vcb unmount ended with $status}"
  cover || :
  fail "$1" "$vm: $2"
}

# Ends the lease of the state file $1. Status 9 = do not trust what was read.
end_lease() {
  lease=$(field "$1" lease)
  [ -n "$lease" ] || fail 1 "$1 names no lease"
  vcb finish "$VCB_COMMAND" leases --json
  over=''
  [ "$status" -ne 0 ] || grep -qF "\"$lease\"" "$state/.out.$$" || over=1
  set -- "$1" "$VCB_COMMAND" unmount "$lease"
  [ -z "$read_all" ] || [ "$read_all" = 0 ] || set -- "$@" --read-all
  file=$1
  shift
  vcb finish "$@"
  rm -f "$state/.out.$$" "$state/.err.$$"
  [ "$status" -ne 0 ] || [ -z "$over" ] || { status=9 && said="the lease $lease had ended before the product was done, so what it read is not whole"; }
  case $status in
  0 | 9)
    dir=$(field "$file" dir)
    rm -f "$file"
    cover || :
    ;;
  # The state stays, so that another call of post-backup tries again.
  12) : "${said:=the lease $lease is over, but something of it is still held; \"vcb recover\" releases it}" ;;
  esac
  [ "$status" -eq 0 ] || say "$vm: ${said:-vcb unmount ended with $status}"
}
