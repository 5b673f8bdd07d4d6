#!/bin/sh
# Stand-in of systemctl for the one unit k3s, with units below STAND_IN_ROOT.
root=@ROOT@
private=@PRIVATE@
command=$1
shift
for unit; do :; done
unit=${unit%.service}
file=$root/etc/systemd/system/$unit.service
link=$root/etc/systemd/system/multi-user.target.wants/$unit.service
pid=$private/$unit.pid
alive() { [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }
loaded() { [ -e "$file" ] || { echo "Unit $unit.service not found." >&2; exit 5; }; }
stop() {
  alive || return 0
  kill "$(cat "$pid")"
  while alive; do sleep 0.05; done
  rm -f "$pid"
}
start() {
  alive && return 0
  [ -r "$root/etc/default/$unit" ] && . "$root/etc/default/$unit" && export CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS
  program=$(sed -n 's/^ExecStart=//p' "$file")
  # shellcheck disable=SC2086
  setsid "$root"$program >>"$private/journal" 2>&1 </dev/null &
  echo $! >"$pid"
}
case $command in
  daemon-reload) ;;
  show)
    case $* in
      # Restart=always: who has ended is started again.
      *NRestarts*)
        count=$(cat "$private/restarts" 2>/dev/null || echo 0)
        if ! alive; then
          count=$((count + 1))
          echo "$count" >"$private/restarts"
          start
        fi
        echo "$count"
        ;;
      *) if [ -e "$file" ]; then echo loaded; else echo not-found; fi ;;
    esac
    ;;
  is-active) if alive; then echo active; else echo inactive; exit 3; fi ;;
  is-enabled) if [ -L "$link" ]; then echo enabled; else echo disabled; exit 1; fi ;;
  enable) loaded; mkdir -p "${link%/*}"; ln -sfn "../$unit.service" "$link" ;;
  disable) rm -f "$link"; rmdir "${link%/*}" 2>/dev/null || true ;;
  start) loaded; rm -f "$private/restarts"; start ;;
  stop) [ -e "$file" ] || alive || exit 5; stop ;;
  restart) loaded; stop; start ;;
  *) echo "stand-in of systemctl: $command is not known" >&2; exit 1 ;;
esac
