import { stringify } from 'yaml';
import type { JoinParent } from './join-parent.ts';

/** What a cluster needs to join, besides the agent itself. */
export type Join = {
  parent: JoinParent;
  /** `id.secret`. */
  token: string;
  clusterName: string | undefined;
  clusterType: string | undefined;
};

/** Where deploy/agent looks. */
const NAMESPACE = 'clusternet-system';
const PARENT = 'fairlead-agent-parent';
const BOOTSTRAP = 'fairlead-agent-bootstrap';
/** Where the service of deploy/machine looks. It runs as root, and nobody else reads its files. */
const FOLDER = '/etc/fairlead-agent';

/** The objects that deploy/agent needs in the child, as YAML. */
export function joinManifest({ parent, token, clusterName }: Join): string {
  const objects = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: PARENT, namespace: NAMESPACE },
      data: { url: parent.url, name: clusterName ?? '', 'ca.crt': parent.ca ?? '' },
    },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: BOOTSTRAP, namespace: NAMESPACE }, type: 'Opaque', stringData: { token } },
  ];
  return objects.map((object) => stringify(object, { lineWidth: 0 })).join('---\n');
}

/** Flags of the agent that the objects have no place for. */
export const furtherFlags = ({ parent, clusterType }: Join): string[] => [
  ...(parent.serverName ? [`--parent-server-name=${parent.serverName}`] : []),
  ...(clusterType ? [`--cluster-type=${clusterType}`] : []),
];

/** Commands for a shell whose kubectl leads to the child. The token is in no argument of a process. */
export function joinByKubectl(join: Join): string {
  const add = furtherFlags(join).map((value) => ({ op: 'add', path: '/spec/template/spec/containers/0/args/-', value }));
  return [
    '# In a checkout of Fairlead, where kubectl leads to the cluster that joins:',
    "kubectl apply -f - <<'END'",
    `${joinManifest(join)}END`,
    'kubectl apply -k deploy/agent',
    ...(add.length > 0 ? [`kubectl -n ${NAMESPACE} patch deployment fairlead-agent --type=json -p '${JSON.stringify(add)}'`] : []),
    '# When it is registered:',
    `kubectl -n ${NAMESPACE} rollout status deployment/fairlead-agent && kubectl -n ${NAMESPACE} delete secret ${BOOTSTRAP}`,
    '',
  ].join('\n');
}

/** Commands for a machine without Kubernetes, as root. */
export function joinMachine(join: Join): string {
  const { parent, token, clusterName } = join;
  // systemd splits them at blanks; there are none in them.
  const flags = [
    `--parent-url=${parent.url}`,
    ...(parent.ca ? [`--parent-ca-file=${FOLDER}/parent-ca.crt`] : []),
    `--bootstrap-token-file=${FOLDER}/bootstrap-token`,
    '--bare',
    ...(clusterName ? [`--cluster-name=${clusterName}`] : []),
    ...furtherFlags(join),
  ];
  const file = (name: string, text: string) => [`install -m 0600 /dev/stdin ${FOLDER}/${name} <<'END'`, `${text}END`];
  return [
    '# As root on the machine that joins, after the package fairlead-agent was installed (deploy/machine/README.md):',
    `install -d -m 0700 ${FOLDER}`,
    ...file('bootstrap-token', `${token}\n`),
    ...(parent.ca ? file('parent-ca.crt', parent.ca) : []),
    ...file('agent.env', `FAIRLEAD_AGENT_FLAGS=${flags.join(' ')}\n`),
    'if [ -d /run/systemd/system ]; then systemctl enable fairlead-agent && systemctl restart fairlead-agent',
    `else echo 'There is no systemd here: let the init of this machine keep /usr/bin/fairlead-agent running, with the flags of ${FOLDER}/agent.env.' >&2`,
    'fi',
    '',
  ].join('\n');
}
