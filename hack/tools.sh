#!/usr/bin/env bash
# Puts the Kubernetes tools that the demo, the end-to-end tests and the benchmarks run into a user cache, one folder per
# tool and version, and prints on stdout the folder that links to all of them. Everything else it says goes to stderr.
#
#   hack/tools.sh [TOOL...]     default: etcd kube-apiserver kube-controller-manager kubectl kwok moto
#
# There are, too: schemathesis; nfpm; registry, which keeps images; and what a machine of its own needs: kubeadm kubelet kube-scheduler kube-proxy, etcdctl etcdutl, coredns,
# the CNI plugins bridge host-local loopback portmap, local-path-provisioner, and of flannel flanneld (with its manifest kube-flannel.yml beside it) install-conf flannel-plugin.
# KUBERNETES_VERSION chooses the version of Kubernetes' own, LOCAL_PATH_VERSION that of the provisioner.
#
# An official binary with a verified checksum is taken where it can be downloaded; otherwise the same version is built
# from the Go module proxy, whose checksums Go verifies itself. FAIRLEAD_TOOLS=build skips the download.
set -euo pipefail

KUBERNETES_VERSION=${KUBERNETES_VERSION:-v1.36.3}
ETCD_VERSION=v3.6.8
COREDNS_VERSION=v1.15.0
CNI_VERSION=v1.9.1
LOCAL_PATH_VERSION=${LOCAL_PATH_VERSION:-v0.0.30}
FLANNEL_VERSION=v0.28.10
# Flannel's plugin as it was among the CNI plugins: the Go module proxy does not serve the module that it is now (github.com/flannel-io/cni-plugin).
FLANNEL_PLUGIN_VERSION=v0.9.1
# Newer ones need a module (go.digitalxero.dev/rpm) that the Go module proxy does not serve.
NFPM_VERSION=v2.45.2
REGISTRY_VERSION=v3.1.2
KWOK_VERSION=v0.8.0
MOTO_VERSION=5.2.1
SCHEMATHESIS_VERSION=4.32.5

cache="${FAIRLEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fairlead}"
tools="$cache/tools"
os=$(uname -s | tr '[:upper:]' '[:lower:]')
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) echo "hack/tools.sh: no Kubernetes binaries for $(uname -m)" >&2; exit 1 ;;
esac

say() { printf 'tools: %s\n' "$*" >&2; }

# A host that cannot be reached is asked once per run, not once per tool.
declare -A unreachable=()

# fetch URL FILE: quietly fails when the host cannot be reached or has no such file.
fetch() {
  local host=${1#https://}
  host=${host%%/*}
  [ -z "${unreachable[$host]:-}" ] || return 1
  [ "${FAIRLEAD_TOOLS:-}" != build ] || return 1
  command -v curl >/dev/null || return 1
  local rc=0
  curl -fsSL --connect-timeout 5 --retry 2 --retry-connrefused -o "$2" "$1" 2>/dev/null || rc=$?
  case $rc in
    0) return 0 ;;
    5 | 6 | 7 | 28 | 35) unreachable[$host]=1; say "$host cannot be reached, building from the Go module proxy instead" ;;
  esac
  return 1
}

# verify FILE SHA256
verify() { printf '%s  %s\n' "$2" "$1" | sha256sum --check --status; }

need_go() {
  command -v go >/dev/null && return 0
  say "$1 cannot be downloaded and Go is not installed: install Go 1.26 or newer, or Internet access to dl.k8s.io"
  exit 1
}

# download_kubernetes NAME DIR
download_kubernetes() {
  local url="https://dl.k8s.io/release/$KUBERNETES_VERSION/bin/$os/$arch/$1"
  fetch "$url.sha256" "$2/sum" && fetch "$url" "$2/$1" && verify "$2/$1" "$(cat "$2/sum")" && chmod +x "$2/$1"
}

# build_kubernetes NAME DIR: k8s.io/kubernetes replaces its staging modules with folders that a module zip does not
# hold, so each is pointed at the published module of the same release.
build_kubernetes() {
  need_go "$1"
  local minor=${KUBERNETES_VERSION#v1.}
  local staging="v0.$minor" gomod work="$cache/build/kubernetes-$KUBERNETES_VERSION"
  mkdir -p "$work"
  if [ ! -f "$work/go.sum" ]; then
    gomod=$(cd "$work" && GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@$KUBERNETES_VERSION" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    {
      echo 'module fairlead.local/kubernetes-build'
      grep '^go ' "$gomod"
      echo "require k8s.io/kubernetes $KUBERNETES_VERSION"
      sed -n 's#^\s*\(k8s.io/[^ ]*\) => ./staging/.*#replace \1 => \1 '"$staging"'#p' "$gomod"
    } >"$work/go.mod"
    printf '//go:build tools\n\npackage tools\n\nimport _ "k8s.io/kubernetes/pkg/apis/core"\n' >"$work/tools.go"
  fi
  local v=k8s.io/component-base/version
  (cd "$work" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -o "$2/$1" \
    -ldflags "-s -w -X $v.gitVersion=$KUBERNETES_VERSION -X $v.gitMajor=1 -X $v.gitMinor=${minor%%.*} -X $v.gitTreeState=clean" \
    "k8s.io/kubernetes/cmd/$1")
}

download_etcd() {
  local base="https://github.com/etcd-io/etcd/releases/download/$ETCD_VERSION" name="etcd-$ETCD_VERSION-$os-$arch"
  fetch "$base/SHA256SUMS" "$2/sums" && fetch "$base/$name.tar.gz" "$2/$name.tar.gz" || return 1
  verify "$2/$name.tar.gz" "$(awk -v f="$name.tar.gz" '$2 == f { print $1 }' "$2/sums")" || return 1
  tar -xzf "$2/$name.tar.gz" -C "$2" --strip-components=1 "$name/$1" && rm "$2/$name.tar.gz"
}

build_etcd() {
  need_go "$1"
  case $1 in
    etcd) build_module go.etcd.io/etcd/server/v3 "$ETCD_VERSION" . "$2/etcd" ;;
    *) build_module "go.etcd.io/etcd/$1/v3" "$ETCD_VERSION" . "$2/$1" ;;
  esac
}

# download_archive URL SUMS_URL NAME DIR: takes the program NAME from an archive that a file of sums names by its last path element, or names alone.
download_archive() {
  local archive=${1##*/} sum
  fetch "$2" "$4/sums" && fetch "$1" "$4/archive" || return 1
  sum=$(awk -v f="$archive" 'NF == 1 || $2 == f || $2 == "*" f { print $1; exit }' "$4/sums")
  [ -n "$sum" ] && verify "$4/archive" "$sum" || return 1
  tar -xzf "$4/archive" -C "$4" && rm "$4/archive" && [ -x "$4/$3" ]
}

download_coredns() {
  local url="https://github.com/coredns/coredns/releases/download/$COREDNS_VERSION/coredns_${COREDNS_VERSION#v}_${os}_$arch.tgz"
  download_archive "$url" "$url.sha256" coredns "$2"
}

build_coredns() {
  need_go coredns
  build_module github.com/coredns/coredns "$COREDNS_VERSION" . "$2/coredns"
}

download_cni() {
  local url="https://github.com/containernetworking/plugins/releases/download/$CNI_VERSION/cni-plugins-$os-$arch-$CNI_VERSION.tgz"
  download_archive "$url" "$url.sha256" "$1" "$2"
}

build_cni() {
  need_go "$1"
  local kind=main
  case $1 in
    host-local) kind=ipam ;;
    portmap) kind=meta ;;
  esac
  build_module github.com/containernetworking/plugins "$CNI_VERSION" "plugins/$kind/$1" "$2/$1"
}

download_nfpm() {
  local base="https://github.com/goreleaser/nfpm/releases/download/$NFPM_VERSION" machine=x86_64
  [ "$arch" = amd64 ] || machine=arm64
  download_archive "$base/nfpm_${NFPM_VERSION#v}_Linux_$machine.tar.gz" "$base/checksums.txt" nfpm "$2"
}

build_nfpm() {
  need_go nfpm
  build_module github.com/goreleaser/nfpm/v2 "$NFPM_VERSION" cmd/nfpm "$2/nfpm"
}

download_registry() {
  local url="https://github.com/distribution/distribution/releases/download/$REGISTRY_VERSION/registry_${REGISTRY_VERSION#v}_${os}_$arch.tar.gz"
  download_archive "$url" "$url.sha256" registry "$2"
}

build_registry() {
  need_go registry
  build_module github.com/distribution/distribution/v3 "$REGISTRY_VERSION" cmd/registry "$2/registry"
}

# kwok publishes no checksum beside its binaries, the others are meant to be had as images: they are always built.
download_nothing() { return 1; }

# With the libraries of flanneld: a second client-go would take more than a minute.
build_local_path() {
  need_go "$1"
  local work="$cache/build/$1-$LOCAL_PATH_VERSION" module=github.com/rancher/local-path-provisioner
  begin_module "$work" "$module" "$LOCAL_PATH_VERSION" github.com/flannel-io/flannel "$FLANNEL_VERSION"
  build_in "$work" "$module" "$2/$1"
}

# flanneld without two of its backends: one needs the SDK of a cloud, which the Go module proxy does not serve, and one a C compiler.
build_flanneld() {
  need_go "$1"
  local work="$cache/build/$1-$FLANNEL_VERSION" module=github.com/flannel-io/flannel source
  begin_module "$work" "$module" "$FLANNEL_VERSION"
  source=$(cd "$work" && go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  sed '/backend\/\(tencentvpc\|udp\)"/d' "$source/main.go" >"$work/main.go"
  build_in "$work" . "$2/$1"
  install -m 0644 "$source/Documentation/kube-flannel.yml" "$2/"
}

build_install_conf() {
  need_go "$1"
  build_module github.com/flannel-io/flannel "$FLANNEL_VERSION" cmd/install_conf "$2/$1"
}

build_flannel_plugin() {
  need_go "$1"
  build_module github.com/containernetworking/plugins "$FLANNEL_PLUGIN_VERSION" plugins/meta/flannel "$2/$1"
}

build_kwok() {
  need_go kwok
  build_module sigs.k8s.io/kwok "$KWOK_VERSION" cmd/kwok "$2/kwok"
}

# begin_module FOLDER (MODULE VERSION)...: a module of ours that needs those.
begin_module() {
  local folder=$1
  shift
  mkdir -p "$folder"
  [ -f "$folder/go.mod" ] || { printf 'module fairlead.local/build\ngo 1.25\n'; printf 'require %s %s\n' "$@"; } >"$folder/go.mod"
}

# build_in FOLDER PACKAGE OUT
build_in() {
  (cd "$1" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags '-s -w' -o "$3" "$2")
}

# build_module MODULE VERSION PACKAGE OUT
build_module() {
  local work
  work="$cache/build/$(basename "$4")-$2"
  begin_module "$work" "$1" "$2"
  local pkg=$1
  [ "$3" = . ] || pkg="$1/$3"
  build_in "$work" "$pkg" "$4"
}

# install_python NAME VERSION REQUIREMENT PROGRAM: a Python program in a virtual environment of its own; the link starts it with the interpreter of
# that environment.
install_python() {
  local name=$1 version=$2 requirement=$3 program=$4
  local dir="$tools/$name-$version"
  if [ ! -x "$dir/bin/$program" ]; then
    say "installing $name $version (Python)"
    if ! command -v python3 >/dev/null || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
      if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing python3-venv"
        apt-get update -qq >&2 && apt-get install -y -qq python3 python3-venv >&2
      else
        say "$name needs Python 3 with venv: apt-get install python3 python3-venv"
        exit 1
      fi
    fi
    rm -rf "$dir"
    # An environment cannot be moved (its scripts name its folder), so a half-made one is marked by what it lacks.
    python3 -m venv "$dir" >&2
    "$dir/bin/pip" install --quiet "$requirement==$version" >&2 || { rm -rf "$dir"; return 1; }
  fi
  ln -sfn "$dir/bin/$program" "$bin/$program"
}

install_binary() {
  local name=$1 version=$2 get=$3 make=$4
  local dir="$tools/$name-$version"
  if [ ! -x "$dir/$name" ]; then
    local part="$dir.part.$$"
    rm -rf "$part" && mkdir -p "$part"
    if ! $get "$name" "$part"; then
      say "building $name $version (once; minutes on a small machine)"
      local begin=$SECONDS
      $make "$name" "$part"
      say "built $name $version in $((SECONDS - begin)) s"
    else
      say "downloaded $name $version, checksum verified"
    fi
    rm -rf "$dir" && mv "$part" "$dir"
  fi
  ln -sfn "$dir/$name" "$bin/$name"
}

bin="$tools/bin-$KUBERNETES_VERSION"
mkdir -p "$bin"
exec 9>"$tools/.lock"
flock 9

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-controller-manager kubectl kwok moto
for tool in "$@"; do
  case $tool in
    etcd | etcdctl | etcdutl) install_binary "$tool" "$ETCD_VERSION" download_etcd build_etcd ;;
    coredns) install_binary coredns "$COREDNS_VERSION" download_coredns build_coredns ;;
    bridge | host-local | loopback | portmap) install_binary "$tool" "$CNI_VERSION" download_cni build_cni ;;
    nfpm) install_binary nfpm "$NFPM_VERSION" download_nfpm build_nfpm ;;
    registry) install_binary registry "$REGISTRY_VERSION" download_registry build_registry ;;
    kwok) install_binary kwok "$KWOK_VERSION" download_nothing build_kwok ;;
    local-path-provisioner) install_binary "$tool" "$LOCAL_PATH_VERSION" download_nothing build_local_path ;;
    flanneld) install_binary flanneld "$FLANNEL_VERSION" download_nothing build_flanneld ;;
    install-conf) install_binary install-conf "$FLANNEL_VERSION" download_nothing build_install_conf ;;
    flannel-plugin) install_binary "$tool" "$FLANNEL_PLUGIN_VERSION" download_nothing build_flannel_plugin ;;
    moto) install_python moto "$MOTO_VERSION" 'moto[server,ec2]' moto_server ;;
    schemathesis) install_python schemathesis "$SCHEMATHESIS_VERSION" schemathesis schemathesis ;;
    kube-apiserver | kube-controller-manager | kubectl | kubeadm | kubelet | kube-scheduler | kube-proxy)
      install_binary "$tool" "$KUBERNETES_VERSION" download_kubernetes build_kubernetes ;;
    *) say "unknown tool $tool"; exit 2 ;;
  esac
done
echo "$bin"
