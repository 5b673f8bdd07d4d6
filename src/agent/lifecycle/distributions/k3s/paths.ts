/** Where k3s keeps its things: https://docs.k3s.io/installation/configuration and the official installer. */
export const UNIT = 'k3s';
export const BIN = '/usr/local/bin';
export const BINARY = `${BIN}/k3s`;
export const CONFIG_FOLDER = '/etc/rancher/k3s';
export const CONFIG = `${CONFIG_FOLDER}/config.yaml`;
export const REGISTRIES = `${CONFIG_FOLDER}/registries.yaml`;
export const REGISTRY_CA = `${CONFIG_FOLDER}/registry-ca.crt`;
export const KUBECONFIG = `${CONFIG_FOLDER}/k3s.yaml`;
export const DATA = '/var/lib/rancher/k3s';
export const SERVER = `${DATA}/server`;
export const TLS = `${SERVER}/tls`;
export const AGENT = `${DATA}/agent`;
export const IMAGES = `${AGENT}/images`;
/** The installer's unit reads it. */
export const ENVIRONMENT = '/etc/default/k3s';
const UNITS = '/etc/systemd/system';

/** What the installer writes beside the binary. */
export const INSTALLED: readonly string[] = [
  ...['kubectl', 'crictl', 'ctr', 'k3s-killall.sh', 'k3s-uninstall.sh'].map((name) => `${BIN}/${name}`),
  `${UNITS}/k3s.service`,
  `${UNITS}/k3s.service.env`,
  `${UNITS}/multi-user.target.wants/k3s.service`,
];

/** What k3s, its kubelet and its containerd make while they run. */
export const MADE: readonly string[] = [
  '/etc/rancher',
  '/var/lib/rancher',
  '/var/lib/kubelet',
  '/var/lib/cni',
  '/var/log/pods',
  '/var/log/containers',
  '/etc/cni',
  '/run/k3s',
  '/run/flannel',
];

/** Those of a single-node server with flannel: https://docs.k3s.io/installation/requirements, and what its parts listen on at 127.0.0.1. */
export const PORTS: readonly number[] = [6443, 6444, 10010, 10248, 10249, 10250, 10256, 10257, 10258, 10259];
