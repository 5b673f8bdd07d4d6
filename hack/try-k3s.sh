#!/usr/bin/env bash
# Opt-in: takes the k3s driver through a cluster's life with the real k3s, on a machine with access to the Internet that may be changed. Tests elsewhere use a stand-in of k3s.
#
#   hack/try-k3s.sh --yes [OLD-VERSION [NEW-VERSION]]      as root; default: v1.35.4+k3s1 v1.36.3+k3s1
#
# K3S_INSTALLER_URL and K3S_RELEASES_URL take the place of https://get.k3s.io and of the project's releases. With K3S_ARTIFACTS, a folder laid out as deploy/machine/README.md says,
# nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --yes ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
[ "$(id -u)" = 0 ] || { echo 'hack/try-k3s.sh: must run as root' >&2; exit 1; }
[ -d /run/systemd/system ] || { echo 'hack/try-k3s.sh: k3s needs systemd' >&2; exit 1; }
exec node_modules/.bin/node hack/try-k3s.ts "${2:-v1.35.4+k3s1}" "${3:-v1.36.3+k3s1}"
