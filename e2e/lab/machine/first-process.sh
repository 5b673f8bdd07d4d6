#!/bin/bash
# The first process of a machine without systemd, as small as one can be: it makes ready what systemd would, keeps the agent running, and, being bash, takes note
# of every process that ends, whoever started it.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
config=/etc/fairlead-agent/agent.env

restart() {
  kill -TERM -1
  sleep 1
  kill -KILL -1
  exec systemctl --force --force reboot
}
trap restart USR1

mount --make-rshared /
# nspawn mounts them read-only; a kubelet writes to them.
for folder in /sys/fs/cgroup/* /sys/fs/cgroup; do
  mountpoint -q "$folder" && mount -o remount,rw,bind "$folder"
done
sysctl -q --system
touch /run/first-process-is-ready

while :; do
  if [ -e "$config" ]; then
    # shellcheck disable=SC2046 # They are to be split at blanks.
    /usr/bin/fairlead-agent $(sed -n 's/^FAIRLEAD_AGENT_FLAGS=//p' "$config") >>/var/log/fairlead-agent.log 2>&1 &
    echo $! >/run/fairlead-agent.pid
    wait $!
  fi
  sleep 0.5
done
