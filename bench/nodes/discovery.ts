import type { Lab } from '../../e2e/lab/lab.ts';
import { load } from '../lib/load.ts';
import { atLeast, type Row } from '../lib/report.ts';
import { median } from '../lib/stats.ts';

const ROUNDS = 5;
const CONCURRENCY = 32;
const ROUND_MS = 2_000;

/** Discovery of our group through kube-apiserver against kube-apiserver's own `/version`, in turns. */
export async function discovery(lab: Lab): Promise<Row> {
  const admin = lab.clientCertificate({ user: 'fairlead-admin', groups: ['system:masters'] });
  const { certificate: cert, key } = await admin;
  const rate = async (path: string) => {
    const result = await load({ url: `${lab.apiServerURL}${path}`, ca: lab.ca, cert, key, concurrency: CONCURRENCY, durationMs: ROUND_MS });
    if (result.failures > 0) throw new Error(`${result.failures} of the requests for ${path} failed`);
    return result.perSecond;
  };
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await rate('/apis/infraops.michael.io/v1'));
    theirs.push(await rate('/version'));
  }
  const [a, b] = [median(ours), median(theirs)];
  return atLeast(`discovery / version, rate at ${CONCURRENCY}`, a / b, 0.3, `${a.toFixed(0)}/s / ${b.toFixed(0)}/s`);
}
