import { expect, test } from 'vitest';
import { withoutKubernetes } from '../../../../../src/agent/lifecycle/distributions/common/firewall.ts';

test('rules of Kubernetes and CNI go, everybody else keeps theirs', () => {
  const saved = `# Generated
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-ABC - [0:0]
:CNI-0123456789abcdef01234567 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 100.100.0.2/32 -m comment --comment "name: \\"fairlead\\" id: \\"0\\"" -j CNI-0123456789abcdef01234567
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
-A CNI-0123456789abcdef01234567 -d 100.100.0.0/24 -j ACCEPT
-A KUBE-SERVICES -d 100.101.0.1/32 -j KUBE-SEP-ABC
COMMIT
`;
  expect(withoutKubernetes(saved)).toBe(`# Generated
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
COMMIT
`);
});

test('a rule that only mentions Kubernetes in its comment stays when an administrator wrote it', () => {
  const saved = '*filter\n-A INPUT -p tcp --dport 6443 -m comment --comment "API of Kubernetes" -j ACCEPT\nCOMMIT\n';
  expect(withoutKubernetes(saved)).toBe(saved);
});

test('chains of another container engine that were there before stay', () => {
  const saved =
    '*nat\n:CNI-other - [0:0]\n:CNI-pod - [0:0]\n-A POSTROUTING -j CNI-other\n-A POSTROUTING -j CNI-pod\n-A CNI-pod -j ACCEPT\nCOMMIT\n';
  expect(withoutKubernetes(saved, ['CNI-other'])).toBe('*nat\n:CNI-other - [0:0]\n-A POSTROUTING -j CNI-other\nCOMMIT\n');
});

test('rules of flannel, Calico and Cilium stayed after a delete', () => {
  const saved = `*filter
:FORWARD ACCEPT [0:0]
:FLANNEL-FWD - [0:0]
:cali-FORWARD - [0:0]
:cali-tw-cali0123456789a - [0:0]
:CILIUM_FORWARD - [0:0]
:OLD_CILIUM_INPUT - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FORWARD -m comment --comment "cilium-feeder: CILIUM_FORWARD" -j CILIUM_FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -s 192.0.2.0/24 -j ACCEPT
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`;
  expect(withoutKubernetes(saved)).toBe('*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 192.0.2.0/24 -j ACCEPT\nCOMMIT\n');
  const calico = '*filter\n:cali-FORWARD - [0:0]\n-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -j ACCEPT\nCOMMIT\n';
  expect(withoutKubernetes(calico, ['cali-FORWARD'])).toBe(calico);
});
