#!/bin/sh
# Stand-in of k3s's official installer (https://docs.k3s.io/reference/env-variables): the variables that the agent uses, the files that it would write. STAND_IN_ROOT takes the
# place of /. Written anew from the documentation.
set -e
root=@ROOT@
fault() { grep -qx "$1" @FAULTS@ 2>/dev/null; }
bin=$root${INSTALL_K3S_BIN_DIR:-/usr/local/bin}
unit=$root/etc/systemd/system/k3s.service
if [ "$INSTALL_K3S_SKIP_DOWNLOAD" != true ]; then
  mkdir -p "$bin"
  curl -o "$bin/k3s" -sfL "${GITHUB_URL:-https://github.com/k3s-io/k3s/releases}/download/$INSTALL_K3S_VERSION/k3s"
  chmod 755 "$bin/k3s"
fi
[ -x "$bin/k3s" ] || { echo "[ERROR]  Executable k3s binary not found at $bin/k3s" >&2; exit 1; }
for name in kubectl crictl ctr; do
  [ -e "$bin/$name" ] || ln -s k3s "$bin/$name"
done
fault install-half && { echo '[ERROR]  no space left on device' >&2; exit 1; }
cat >"$bin/k3s-killall.sh" <<END
#!/bin/sh
systemctl stop k3s
rm -rf $root/var/lib/cni $root/run/k3s
grep -v cni0 $root/proc/net/dev >$root/proc/net/dev.new
mv $root/proc/net/dev.new $root/proc/net/dev
END
cat >"$bin/k3s-uninstall.sh" <<END
#!/bin/sh
$bin/k3s-killall.sh
systemctl disable k3s
rm -f $unit $unit.env
rm -f $bin/kubectl $bin/crictl $bin/ctr
rm -rf $root/etc/rancher/k3s $root/run/k3s $root/run/flannel $root/var/lib/rancher/k3s $root/var/lib/kubelet
rm -f $bin/k3s $bin/k3s-killall.sh $bin/k3s-uninstall.sh
END
chmod 755 "$bin/k3s-killall.sh" "$bin/k3s-uninstall.sh"
systemctl disable k3s >/dev/null 2>&1 || true
mkdir -p "$root/etc/systemd/system"
: >"$unit.env"
chmod 600 "$unit.env"
cat >"$unit" <<END
[Unit]
Description=Lightweight Kubernetes
[Install]
WantedBy=multi-user.target
[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
KillMode=process
ExecStart=/usr/local/bin/k3s $INSTALL_K3S_EXEC
END
[ "$INSTALL_K3S_SKIP_ENABLE" = true ] && exit 0
systemctl enable k3s
[ "$INSTALL_K3S_SKIP_START" = true ] && exit 0
systemctl restart k3s
