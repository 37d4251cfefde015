#!/bin/bash
# Brings the independent programs that the tests hold us against (see test/peer.ts) onto a Debian machine:
# packages by apt-get, and into .peers/ VMware's own vcsim and govc, which Debian packages only as a library, plus vcsim-lite of
# scripts/peers/ (and our own vcsim of there where the source package is not to be had). Needs root or sudo, and no network but the machine's own
# package sources. A second run finds everything and is done at once.
#   scripts/install-peers.sh           everything
#   scripts/install-peers.sh --check   only says what is missing; exit 1 when something is
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
dest=$top/.peers
packages=(restic qemu-utils nbdkit libnbd-bin nbd-client openssh-server openssh-client busybox strace tar e2fsprogs procps ntfs-3g fdisk gdisk parted fuse3 openssl curl
  ca-certificates python3 python3-pyvmomi
  xfsprogs btrfs-progs dosfstools mtools exfatprogs cryptsetup-bin genisoimage util-linux libhivex-bin shellcheck borgbackup borgmatic rsnapshot
  sqlite3 bacula-director-sqlite3 bacula-director bacula-sd bacula-fd bacula-console
  amanda-server amanda-client libencode-locale-perl sudo burp postgresql prometheus rclone logrotate systemd
  radosgw ceph-mon ceph-mgr ceph-osd ceph-common
  python3-aiosmtpd rsyslog rsyslog-gnutls bsdutils
  golang-go golang-github-vmware-govmomi-dev golang-github-kr-pretty-dev golang-github-davecgh-go-xdr-dev golang-github-vmware-vmw-guestinfo-dev dpkg-dev)
built=(vcsim govc vcsim-lite)
log=$(mktemp)
work=$(mktemp -d)
policy=
trap '[ -z "$policy" ] || as_root rm -f "$policy"; rm -rf "$work" "$log"' EXIT

fail() {
  echo "install-peers: $1" >&2
  [ -s "$log" ] && tail -n 15 "$log" >&2
  exit 1
}
quietly() { "$@" >"$log" 2>&1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n "$@"
  else echo "neither root nor sudo: run as root: $*" && return 1
  fi
}
# Debian starts the daemons it installs (Bacula's, sshd, a mail server). The tests start their own: what installs here starts none (101 = forbidden).
start_no_daemon() {
  [ ! -e /usr/sbin/policy-rc.d ] || return 0
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
}
missing_packages() {
  local package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || echo "$package"
  done
}
missing_built() {
  local program
  for program in "${built[@]}"; do
    [ -x "$dest/$program" ] || echo "$program"
  done
}

command -v apt-get >/dev/null || fail 'this script knows Debian only: there is no apt-get here. Install the programs named in test/peer.ts by hand'
mapfile -t lacking < <(missing_packages)
mapfile -t unbuilt < <(missing_built)
if [ "${1:-}" = --check ]; then
  [ $((${#lacking[@]} + ${#unbuilt[@]})) = 0 ] && exit 0
  echo "missing: ${lacking[*]} ${unbuilt[*]}"
  exit 1
fi

if [ ${#lacking[@]} -gt 0 ]; then
  echo "peers: installing ${#lacking[@]} packages"
  quietly as_root apt-get -qq update || fail 'apt-get update failed'
  quietly start_no_daemon || fail 'the start of daemons could not be forbidden'
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${lacking[@]}" ||
    fail "apt-get could not install: ${lacking[*]}"
fi
[ ${#unbuilt[@]} -gt 0 ] || { echo "peers: all ${#packages[@]} packages and ${#built[@]} built programs are there"; exit 0; }

# No -trimpath: with it Go 1.19 compiles its standard library anew, a minute more.
export GOFLAGS= GOCACHE="${GOCACHE:-$work/cache}"
mkdir -p "$dest"
build() { # PROGRAM PACKAGE GOPATH: written aside and renamed, so that a broken build leaves nothing that looks finished
  echo "peers: building $1"
  quietly env GO111MODULE=off GOPATH="$3" go build -ldflags='-s -w' -o "$work/$1" "$2" && mv "$work/$1" "$dest/$1"
}

[ -x "$dest/vcsim-lite" ] || build vcsim-lite "$top/scripts/peers/vcsim-lite/main.go" /usr/share/gocode || fail 'vcsim-lite did not build'

# The machine's own sources of this Debian release, asked for source packages; kept apart from the machine's configuration.
source_package() { # NAME: unpacks it into $work
  local release file
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
  mkdir -p "$work/parts" "$work/lists/partial"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] && awk -v RS= -v ORS='\n\n' -v release="$release" '$0 ~ "Suites:([^\n]* )?" release "([ \n]|$)"' "$file" |
      sed -E 's/^Types:.*/Types: deb-src/' >"$work/parts/$(basename "$file")"
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] && sed -nE "s/^deb (.* $release .*)/deb-src \1/p" "$file" >"$work/parts/src-$(basename "$file" .list).list"
  done
  local apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists" -o APT::Sandbox::User=root)
  as_root "${apt[@]}" update && cd "$work" && as_root "${apt[@]}" source "$1" && cd "$top"
}

if [[ " ${unbuilt[*]} " == *" vcsim "* || " ${unbuilt[*]} " == *" govc "* ]]; then
  if quietly source_package golang-github-vmware-govmomi; then
    mkdir -p "$work/gopath/src/github.com/vmware"
    ln -s "$work"/golang-github-vmware-govmomi-[0-9]*/ "$work/gopath/src/github.com/vmware/govmomi"
    for program in vcsim govc; do
      [ -x "$dest/$program" ] || build $program "github.com/vmware/govmomi/$program" "$work/gopath:/usr/share/gocode" || fail "$program did not build"
    done
  else
    echo 'peers: no source package to be had here; vcsim is built from our own small main, govc fetched as a Go module' >&2
    [ -x "$dest/vcsim" ] || build vcsim "$top/scripts/peers/vcsim/main.go" /usr/share/gocode || fail 'vcsim did not build'
    if [ ! -x "$dest/govc" ]; then
      quietly env GO111MODULE=on GOPATH="$work/modules" GOBIN="$work/bin" GOFLAGS=-modcacherw go install -ldflags='-s -w' github.com/vmware/govmomi/govc@v0.24.2 ||
        fail "govc: neither Debian's source package nor the Go module could be had"
      mv "$work/bin/govc" "$dest/govc"
    fi
  fi
fi
echo "peers: ready in .peers/"
