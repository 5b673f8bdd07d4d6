#!/bin/sh
# After the files are in place. dpkg: configure [OLD-VERSION]; rpm: 1 for the first installation, 2 for an upgrade.
set -e
unit=fairlead-agent.service
case "$1" in
  configure) old=$2 ;;
  1) old= ;;
  2) old=unknown ;;
  # abort-upgrade and the like: nothing was changed.
  *) exit 0 ;;
esac
command -v systemctl >/dev/null || exit 0
# Only the first time: later it is the administrator's.
if [ -z "$old" ]; then
  systemctl enable "$unit" >/dev/null 2>&1 || echo "fairlead-agent: $unit could not be enabled" >&2
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ -n "$old" ]; then
  systemctl try-restart "$unit"
elif [ -e /etc/fairlead-agent/agent.env ]; then
  systemctl start "$unit"
else
  echo "fairlead-agent: not configured yet; 'kubectl infra join-command --machine' in the parent prints what to run here."
fi
