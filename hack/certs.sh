#!/usr/bin/env bash
# Makes a CA and a serving certificate for a hub outside of the cluster that does not make its own (--tls-cert-file, --tls-private-key-file).
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: hack/certs.sh [options]

Writes ca.crt, ca.key, tls.crt, tls.key and caBundle.txt (one line of base64, for spec.caBundle of the APIService), and prints the caBundle.
What is there already is kept while it fits: a certificate is made anew when its names or its CA changed, or when it ends within 30 days or a
third of its life.

  --name NAME        Service in front of the hub (default fairlead-hub)
  --namespace NAME   its namespace (default fairlead-system)
  --ip ADDRESS       further IP address; may be repeated
  --dns NAME         further DNS name; may be repeated
  --days DAYS        life of the serving certificate (default 365); a new CA lives 10 years longer
  --out FOLDER       default: certs, in the root of the repository
  -h, --help         this text
USAGE
}

fail() { echo "hack/certs.sh: $*" >&2; exit 2; }

name=fairlead-hub
namespace=fairlead-system
days=365
out="$(cd "$(dirname "$0")/.." && pwd)/certs"
more=()
while [ $# -gt 0 ]; do
  flag=$1
  case $flag in
    -h | --help) usage; exit 0 ;;
    --*=*) value=${flag#*=}; flag=${flag%%=*}; shift ;;
    --name | --namespace | --ip | --dns | --days | --out) [ $# -ge 2 ] || fail "$flag needs a value"; value=$2; shift 2 ;;
    *) fail "unknown argument $flag; see --help" ;;
  esac
  case $flag in
    --name) name=$value ;;
    --namespace) namespace=$value ;;
    --ip) more+=("IP:$value") ;;
    --dns) more+=("DNS:$value") ;;
    --days) days=$value ;;
    --out) out=$value ;;
    *) fail "unknown argument $flag; see --help" ;;
  esac
done
command -v openssl >/dev/null || fail 'openssl is not installed'
# Everything below is written into a configuration of openssl, where other characters would mean something.
label='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
[[ $name =~ ^$label$ ]] || fail "--name: $name is no name of a Service"
[[ $namespace =~ ^$label$ ]] || fail "--namespace: $namespace is no name of a namespace"
[[ $days =~ ^[1-9][0-9]{0,3}$ ]] || fail "--days: $days is no number of days from 1 to 9999"
for one in "${more[@]+"${more[@]}"}"; do
  case $one in
    DNS:*) [[ ${one#DNS:} =~ ^(\*\.)?($label\.)*$label$ ]] || fail "--dns: ${one#DNS:} is no DNS name in lower case" ;;
    IP:*) [[ ${one#IP:} =~ ^[0-9]+(\.[0-9]+){3}$ || ${one#IP:} =~ ^[0-9a-f:]*:[0-9a-f:.]*$ ]] || fail "--ip: ${one#IP:} is no IP address" ;;
  esac
done

umask 077
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

names="DNS:$name.$namespace.svc,DNS:$name.$namespace.svc.cluster.local,DNS:$name,DNS:localhost,IP:127.0.0.1"
for one in "${more[@]+"${more[@]}"}"; do names+=",$one"; done
spare=$((days * 86400 / 3))
[ "$spare" -le 2592000 ] || spare=2592000

# fits CERTIFICATE KEY SECONDS: both are there and belong together, and the certificate lives at least so long.
fits() {
  [ -s "$1" ] && [ -s "$2" ] || return 1
  [ "$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null)" = "$(openssl pkey -in "$2" -pubout 2>/dev/null)" ] || return 1
  openssl x509 -in "$1" -noout -checkend "$3" >/dev/null
}

# Interrupted in between, the two do not belong together, and the next run makes them anew.
install_pair() {
  mv -f "$work/new.key" "$out/$1.key"
  mv -f "$work/new.crt" "$out/$1.crt"
}

if ! fits "$out/ca.crt" "$out/ca.key" $((days * 86400)); then
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/new.key"
  openssl req -x509 -new -sha256 -key "$work/new.key" -out "$work/new.crt" -days $((3650 + days)) -config <(cat <<CONFIG
[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
CN = fairlead-ca
[ext]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
CONFIG
)
  install_pair ca
  echo "made a CA: $out/ca.crt" >&2
fi

# The names that were asked for last time stand beside the certificate: openssl prints addresses in a form of its own.
if ! { fits "$out/tls.crt" "$out/tls.key" "$spare" && openssl verify -CAfile "$out/ca.crt" "$out/tls.crt" >/dev/null 2>&1 &&
  [ "$(cat "$out/.names" 2>/dev/null)" = "$names" ]; }; then
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/new.key"
  openssl req -new -sha256 -key "$work/new.key" -subj "/CN=$name.$namespace.svc" -out "$work/new.csr"
  cat >"$work/ext" <<CONFIG
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
CONFIG
  openssl x509 -req -sha256 -in "$work/new.csr" -CA "$out/ca.crt" -CAkey "$out/ca.key" -set_serial "0x$(openssl rand -hex 16 | sed 's/^./4/')" \
    -days "$days" -extfile "$work/ext" -out "$work/new.crt" 2>"$work/log" || { cat "$work/log" >&2; fail 'openssl did not sign the certificate'; }
  printf '%s\n' "$names" >"$work/names"
  rm -f "$out/.names"
  install_pair tls
  mv -f "$work/names" "$out/.names"
  echo "made a serving certificate for $names: $out/tls.crt" >&2
fi

openssl base64 -A -in "$out/ca.crt" -out "$work/caBundle"
echo >>"$work/caBundle"
mv -f "$work/caBundle" "$out/caBundle.txt"
cat "$out/caBundle.txt"
