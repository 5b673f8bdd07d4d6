#!/bin/sh
# After the files are gone. dpkg: remove, purge and others; rpm: 0 for the removal, 1 for an upgrade. rpm has no purge: it leaves configuration and state.
set -e
state=/var/lib/fairlead-agent
case "$1" in
  remove | purge | 0)
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    ;;
esac
[ "$1" = purge ] || exit 0
# Token and credentials.
rm -rf /etc/fairlead-agent
if [ -e "$state/lifecycle/baseline" ]; then
  # What the machine's own files were before the cluster was made: nobody else has it.
  find "$state" -mindepth 1 -maxdepth 1 ! -name lifecycle -exec rm -rf {} +
  echo "fairlead-agent: $state/lifecycle is kept: it says how this machine was before the cluster on it. Remove it when you do not need that." >&2
else
  rm -rf "$state"
fi
