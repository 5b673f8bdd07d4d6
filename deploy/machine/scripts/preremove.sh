#!/bin/sh
# Before the files go. dpkg: remove, or upgrade NEW-VERSION; rpm: 0 for the removal, 1 for an upgrade.
set -e
case "$1" in
  remove | 0) ;;
  *) exit 0 ;;
esac
if [ -e /var/lib/fairlead-agent/lifecycle/baseline ]; then
  echo "fairlead-agent: the cluster on this machine goes on running; without the agent nobody looks after it." >&2
fi
command -v systemctl >/dev/null || exit 0
if [ -d /run/systemd/system ]; then
  systemctl stop fairlead-agent.service
fi
systemctl disable fairlead-agent.service >/dev/null 2>&1 || true
