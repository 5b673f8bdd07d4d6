#!/usr/bin/env bash
# Makes the file system of a small Debian machine with systemd and containerd, once, in the user cache, and prints its folder on stdout.
# e2e/lab/machine.ts copies rootfs/ for each machine. Beside it are sums (sha256 of its files), packages/ (Debian's containerd and runc) and busybox, the program, for images.
#
#   hack/machine-rootfs.sh
#
# Needs root, debootstrap and systemd-nspawn; the two are installed where apt-get can do that.
set -euo pipefail

SUITE=bookworm
PACKAGES=systemd,systemd-sysv,dbus,containerd,runc,iptables,nftables,conntrack,socat,ethtool,iproute2,kmod,procps,ca-certificates
# Not for the machine.
TAKEN_OUT=busybox-static

cache="${FAIRLEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fairlead}"
key=$(printf '%s %s ' "$SUITE" "$PACKAGES" | cat - "$0" | sha256sum | cut -c1-12)
target="$cache/machine/$SUITE-$key"

say() { printf 'machine: %s\n' "$*" >&2; }
give_up() { say "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || give_up "machines with systemd need Linux"
[ "$(id -u)" = 0 ] || give_up "machines with systemd need root"

missing=()
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
[ -d "$target/rootfs" ] || command -v debootstrap >/dev/null || missing+=(debootstrap)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || give_up "systemd-nspawn and debootstrap are needed: install systemd-container and debootstrap"
  say "installing ${missing[*]}"
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2; then
    give_up "cannot install it: apt-get install ${missing[*]}"
  fi
fi

mkdir -p "$cache/machine"
exec 9>"$cache/machine/.lock"
flock 9
if [ ! -d "$target/rootfs" ]; then
  part="$target.part.$$"
  trap 'rm -rf "$part"' EXIT
  mkdir -p "$part/packages"
  say "making a $SUITE machine (once; one or two minutes)"
  debootstrap --variant=minbase --include="$PACKAGES,$TAKEN_OUT" "$SUITE" "$part/rootfs" >"$part/log" 2>&1 ||
    give_up "debootstrap failed: $(tail -n 3 "$part/log" | tr '\n' ' ')"
  root="$part/rootfs"
  cp "$root/bin/busybox" "$part/busybox"
  chroot "$root" dpkg --purge "$TAKEN_OUT" >>"$part/log" 2>&1 || give_up "cannot take $TAKEN_OUT out again: $(tail -n 3 "$part/log" | tr '\n' ' ')"
  cp "$root"/var/cache/apt/archives/{containerd,runc}_*.deb "$part/packages/"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/var/lib/apt/lists/*
  rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
  # Timers that change the machine by themselves.
  for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
  done
  # nspawn mounts the cgroup controllers read-only; a kubelet writes to them. Before everything else, so that it is the same after each boot.
  cat >"$root/etc/systemd/system/lab-writable-cgroups.service" <<'UNIT'
[Unit]
Description=Control groups that can be written, as on a machine of its own
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for d in /sys/fs/cgroup/* /sys/fs/cgroup; do mountpoint -q "$d" && mount -o remount,rw,bind "$d"; done; true'

[Install]
WantedBy=sysinit.target
UNIT
  mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
  ln -sfn ../lab-writable-cgroups.service "$root/etc/systemd/system/sysinit.target.wants/lab-writable-cgroups.service"
  # So that a comparison needs to read only what was changed since.
  (cd "$root" && find . -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sed 's#  \./#  /#') >"$part/sums"
  rm -rf "$target" && mv "$part" "$target"
  trap - EXIT
fi
echo "$target"
