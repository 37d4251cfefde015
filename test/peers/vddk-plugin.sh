#!/bin/bash
# Stands in for nbdkit-vddk-plugin(1), which needs VMware's library: an nbdkit sh plugin that takes the same parameters, checks them as the plugin
# would, and serves the lab's file, its chain of redo logs read by qemu. The directory of the datastores comes as libdir.
set -u
keep() { printf '%s' "$2" >"$tmpdir/$1"; }
had() { cat "$tmpdir/$1" 2>/dev/null; }
refuse() { echo "vddk: $*" >&2; exit 1; }
case $1 in
  dump_plugin) echo 'vddk_library_version=8.0.2'; echo 'vddk_has_nfchostport=1' ;;
  config)
    case $2 in
      libdir | server | port | user | thumbprint | vm | snapshot | file) keep "$2" "$3" ;;
      transports | compression) keep "$2" "$3" ;;
      password) [ "$3" = -3 ] || refuse 'the password must not be in an argument'; keep password "$(cat <&3)" ;;
      *) refuse "unknown parameter '$2'" ;;
    esac
    ;;
  config_complete)
    for key in libdir server user password thumbprint vm file; do [ -s "$tmpdir/$key" ] || refuse "'$key' is missing"; done
    [[ $(had vm) =~ ^moref=[a-z0-9-]+$ ]] || refuse "vm is $(had vm)"
    [[ $(had thumbprint) =~ ^([0-9A-F]{2}:){19}[0-9A-F]{2}$ ]] || refuse "thumbprint is $(had thumbprint)"
    [ "$(had password)" = "$(cat "$(had libdir)/password")" ] || refuse 'VixDiskLib_ConnectEx: Cannot complete login due to an incorrect user name or password'
    ;;
  open)
    [ ! -e "$(had libdir)/refuse" ] || refuse 'VixDiskLib_Open: [datastore]: Unknown error'
    [[ $(had file) =~ ^\[([^]/]+)\]\ (.+)$ ]] || refuse "file is $(had file)"
    path="$(had libdir)/datastores/${BASH_REMATCH[1]}/${BASH_REMATCH[2]}"
    size=$(qemu-img info -f vmdk "$path" | sed -n 's/^virtual size:.*(\([0-9]*\) bytes)$/\1/p')
    [ -n "$size" ] || refuse "VixDiskLib_Open: $path"
    keep size "$size"
    keep path "$path"
    # qemu looks at every grain of a disk that it converts, which takes minutes for terabytes of none: those are read where they are.
    [ "$size" -gt 1073741824 ] || [ -e "$tmpdir/disk" ] || qemu-img convert -f vmdk -O raw "$path" "$tmpdir/disk" || refuse "VixDiskLib_Open: $path"
    ;;
  get_size) had size ;;
  pread)
    [ ! -e "$(had libdir)/break" ] || { rm -rf "$(had libdir)/break" "$tmpdir"; kill -9 $PPID; }
    if [ ! -e "$tmpdir/disk" ]; then
      piece=$(mktemp "$tmpdir/piece.XXXXXX")
      # Its count includes what is skipped.
      qemu-img dd -f vmdk -O raw bs=512 skip="$(($4 / 512))" count="$((($4 + $3 + 511) / 512))" if="$(had path)" of="$piece" >&2 || refuse "VixDiskLib_Read: $(had path)"
      head -c "$3" "$piece"
      rm -f "$piece"
      exit
    fi
    dd status=none if="$tmpdir/disk" iflag=skip_bytes,count_bytes,fullblock bs=1M skip="$4" count="$3"
    ;;
  thread_model) echo parallel ;;
  *) exit 2 ;;
esac
