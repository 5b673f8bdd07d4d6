#!/usr/bin/env bash
# Writes a kubeconfig for a ServiceAccount to stdout. Its token comes from TokenRequest (kubectl create token): it ends by itself, and no Secret holds it.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: hack/kubeconfig.sh SERVICEACCOUNT [options] > FILE

Uses kubectl's own configuration (KUBECONFIG, current context) to ask for the token; you need the right to create serviceaccounts/token.

  -n, --namespace NAME    namespace of the ServiceAccount (default: default)
      --duration TIME     life of the token, such as 1h (default); kube-apiserver may shorten it
      --context NAME      context of your kubeconfig
      --server URL        address of kube-apiserver in the result, where it differs from yours
  -h, --help              this text
USAGE
}

fail() { echo "hack/kubeconfig.sh: $*" >&2; exit 2; }

account=
namespace=default
duration=1h
server=
kubectl=(kubectl)
while [ $# -gt 0 ]; do
  flag=$1
  case $flag in
    -h | --help) usage; exit 0 ;;
    --*=*) value=${flag#*=}; flag=${flag%%=*}; shift ;;
    -n | --namespace | --duration | --context | --server) [ $# -ge 2 ] || fail "$flag needs a value"; value=$2; shift 2 ;;
    -*) fail "unknown argument $flag; see --help" ;;
    *) [ -z "$account" ] || fail "one ServiceAccount at a time: $account, $flag"; account=$flag; shift; continue ;;
  esac
  case $flag in
    -n | --namespace) namespace=$value ;;
    --duration) duration=$value ;;
    --context) kubectl+=("--context=$value") ;;
    --server) server=$value ;;
    *) fail "unknown argument $flag; see --help" ;;
  esac
done
[ -n "$account" ] || { usage >&2; exit 2; }
# All of these end up in YAML.
[[ $account =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || fail "$account is no name of a ServiceAccount"
[[ $namespace =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || fail "$namespace is no name of a namespace"
[[ $server =~ ^(https://[A-Za-z0-9.:/_%\[\]-]+)?$ ]] || fail '--server: must be an https:// URL'

# --minify leaves the cluster of the context, --flatten puts files into it.
field() { "${kubectl[@]}" config view --minify --flatten --raw -o "jsonpath={.clusters[0].cluster.$1}"; }
[ -n "$server" ] || server=$(field server)
[ -n "$server" ] || fail 'the kubeconfig in use names no server'
ca=$(field certificate-authority-data)
name=$(field tls-server-name)
proxy=$(field proxy-url)
if [ -z "$ca" ] && [ "$(field insecure-skip-tls-verify)" = true ]; then
  fail 'your kubeconfig does not verify the server (insecure-skip-tls-verify); the result would not either'
fi
token=$("${kubectl[@]}" create token "$account" --namespace="$namespace" --duration="$duration")

# JSON strings are YAML strings too.
quoted() { local text=${1//\\/\\\\}; printf '"%s"' "${text//\"/\\\"}"; }
echo 'apiVersion: v1'
echo 'kind: Config'
echo 'clusters:'
echo '  - name: cluster'
echo '    cluster:'
echo "      server: $(quoted "$server")"
# Without a CA the server is verified against those of the system.
[ -z "$ca" ] || echo "      certificate-authority-data: $ca"
[ -z "$name" ] || echo "      tls-server-name: $(quoted "$name")"
[ -z "$proxy" ] || echo "      proxy-url: $(quoted "$proxy")"
cat <<YAML
users:
  - name: $account
    user:
      token: $token
contexts:
  - name: $account
    context:
      cluster: cluster
      user: $account
      namespace: $namespace
current-context: $account
YAML
