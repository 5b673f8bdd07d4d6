import { CLUSTER_FOLDER } from '../common/ledger.ts';

export const ADMIN_CONF = '/etc/kubernetes/admin.conf';
export const PKI = '/etc/kubernetes/pki';
export const MANIFESTS = '/etc/kubernetes/manifests';
export const KUBEADM_CONFIG = `${CLUSTER_FOLDER}/kubeadm.yaml`;
export const CONTAINERD_SOCKET = 'unix:///run/containerd/containerd.sock';
export const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
/** It without the password of the registry. Only where it holds secrets, of which the engine keeps no copy: a repair makes it anew from there. */
export const CONTAINERD_BASE = `${CLUSTER_FOLDER}/containerd.toml`;
export const REGISTRY_FOLDER = '/etc/containerd/certs.d';
export const CNI_BIN = '/opt/cni/bin';
/** Before the names that others use, because containerd takes the first. */
export const CNI_CONFIG = '/etc/cni/net.d/05-fairlead.conflist';
/** How containerd's images and containers of Kubernetes are asked and changed. */
export const CTR = ['ctr', '-n', 'k8s.io'] as const;

export const imagesFolder = (version: string) => `kubernetes/${version}/images/`;
export const program = (version: string, name: string) => `kubernetes/${version}/bin/${name}`;

/** The static pods, by the label `component` that kubeadm gives them; also the names of their manifests and containers. */
export const STATIC_PODS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;
