import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longRun, times } from '../../test/support/counts.ts';
import { patch } from '../lab/api-client.ts';
import { eachOf } from '../lab/each.ts';
import { startHub } from '../lab/hub.ts';
import { type Lab, startLab } from '../lab/lab.ts';
import { type LabNode, workerNodes } from '../lab/nodes.ts';
import { waitFor } from '../lab/wait.ts';
import { type Ec2Answers, lostAnswers, startEc2Answers } from '../support/ec2-answers.ts';
import { begin, ended, expectReleased, fastFlags, getNode, type NodeOperation, when } from '../support/operations.ts';

const LOST_NODES = lostAnswers.length * 3;
const TIMEOUT = longRun ? 1_800_000 : 180_000;
/** How much later than its time limit an operation may end. */
const SLACK_MS = 5_000;

/** Milliseconds from the first phase that calls the cloud to the end. */
function tookMs({ status }: NodeOperation): number {
  const began = status.history?.find(({ phase }) => phase === 'Restarting')?.time ?? '';
  return Date.parse(status.completionTime ?? '') - Date.parse(began);
}

describe.concurrent('the cloud fails', () => {
  let lab: Lab;
  let answers: Ec2Answers;
  let taken = LOST_NODES;
  const takeNode = (): LabNode => lab.node(taken++);
  const reboots = ({ instanceID }: LabNode) => lab.ec2.gate.count('RebootInstances', instanceID);
  const arrivals = ({ instanceID }: LabNode) => lab.ec2.gate.calls().filter((call) => call.instanceIDs.includes(instanceID)).length;
  const fail = ({ instanceID }: LabNode, status: number, code: string, count?: number) =>
    lab.ec2.gate.inject({
      action: 'RebootInstances',
      instanceID,
      respond: { status, code },
      ...(count === undefined ? {} : { times: count }),
    });

  beforeAll(async () => {
    lab = await startLab({ nodes: workerNodes(LOST_NODES + 14) });
    answers = await startEc2Answers(lab);
    const flags = [...fastFlags, '--unanswered-call-wait=10s', '--cloud-timeout=2s'];
    await startHub(lab, { flags, env: { AWS_ENDPOINT_URL_EC2: answers.url } });
  });
  afterAll(() => lab?.stop());

  const runs = times(LOST_NODES, 210);
  test(`R57: the cloud acts and its answer is lost, ${runs} times`, { timeout: TIMEOUT }, async () => {
    const nodes = lab.nodes.slice(0, LOST_NODES);
    for (let run = 0; run < runs; run += nodes.length) {
      const before = nodes.map(reboots);
      await eachOf(nodes.entries(), 10, async ([index, node]) => {
        const how = lostAnswers[index % lostAnswers.length] ?? 'reset';
        answers.lose(node.instanceID, how);
        const { status } = await ended(lab, await begin(lab, node));
        expect(status, how).toMatchObject({ phase: 'Succeeded' });
        expect(status.calls, how).toMatchObject([{ action: 'RestartSoft', attempt: 1, state: 'Accepted' }]);
        expect(status.bootIDAfter).not.toBe(status.bootIDBefore);
      });
      expect(nodes.map(reboots)).toEqual(before.map((count) => count + 1));
    }
  });

  test('R57: a call that was lost on its way is made again, once, after evidence was looked for', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    lab.ec2.gate.inject({ action: 'RebootInstances', instanceID: node.instanceID, times: 1, drop: 'before' });
    const { status } = await ended(lab, await begin(lab, node));
    expect(status).toMatchObject({
      phase: 'Succeeded',
      calls: [
        { attempt: 1, state: 'Unknown' },
        { attempt: 2, state: 'Accepted' },
      ],
    });
    expect(reboots(node)).toBe(1);
  });

  test('a call whose answer was lost was made again although the node was going down', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    lab.kubelet.setBehaviour(node.name, 'never-back');
    answers.lose(node.instanceID, 'reset');
    // Longer than the wait for evidence, so that the call would be repeated.
    const { status } = await ended(lab, await begin(lab, node, { timeoutSeconds: 14 }));
    expect(status).toMatchObject({ phase: 'Failed', reason: 'OutcomeUnknown' });
    expect(arrivals(node)).toBe(1);
  });

  test('R58: throttling that passes is waited out', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    fail(node, 503, 'RequestLimitExceeded', 2);
    const name = await begin(lab, node, { timeoutSeconds: 40 });
    const during = await when(lab, name, ({ status }) => status.calls?.at(-1)?.state === 'Refused', 'to be refused');
    expect(during.status.message).toContain('RequestLimitExceeded');
    expect((await ended(lab, name)).status).toMatchObject({ phase: 'Succeeded' });
    expect(arrivals(node)).toBe(3);
    expect(reboots(node)).toBe(1);
  });

  const lasting = [
    { what: 'throttling', code: 'RequestLimitExceeded', http: 503, reason: /^CloudThrottled$/ },
    { what: 'an error 500', code: 'InternalError', http: 500, reason: /^(OutcomeUnknown|CloudTransient)$/ },
    { what: 'no capacity', code: 'InsufficientInstanceCapacity', http: 500, reason: /^CloudTransient$/ },
  ];
  test.each(lasting)('R58: $what that lasts ends the operation by its deadline, after few calls', { timeout: TIMEOUT }, async (fault) => {
    const node = takeNode();
    fail(node, fault.http, fault.code);
    const operation = await ended(lab, await begin(lab, node, { timeoutSeconds: 12 }));
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: expect.stringMatching(fault.reason) });
    expect(operation.status.calls?.at(-1)?.code).toBe(fault.code);
    expect(tookMs(operation)).toBeLessThan(12_000 + SLACK_MS);
    expect(arrivals(node)).toBeLessThanOrEqual(5);
    expect(reboots(node)).toBe(0);
    await expectReleased(lab, node);
  });

  test.each(['UnauthorizedOperation', 'ExpiredToken'])(
    'R58: credentials that stop working midway (%s) end it at once',
    { timeout: TIMEOUT },
    async (code) => {
      const node = takeNode();
      fail(node, 503, 'RequestLimitExceeded', 1);
      const denied = fail(node, 403, code);
      const { status } = await ended(lab, await begin(lab, node, { timeoutSeconds: 40 }));
      expect(status).toMatchObject({ phase: 'Failed', reason: 'CloudForbidden' });
      expect(status.message).toContain(code);
      expect(denied.hits()).toBe(1);
      expect(reboots(node)).toBe(0);
      await expectReleased(lab, node);
    },
  );

  test('an operation whose call was never answered outlived its time limit while evidence was looked for', {
    timeout: TIMEOUT,
  }, async () => {
    const node = takeNode();
    lab.ec2.gate.inject({ action: 'RebootInstances', instanceID: node.instanceID, drop: 'before' });
    const operation = await ended(lab, await begin(lab, node, { timeoutSeconds: 3 }));
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'OutcomeUnknown' });
    expect(tookMs(operation)).toBeLessThan(3_000 + SLACK_MS);
    await expectReleased(lab, node);
  });

  test('R63: a node that never boots fails with BootIDUnchanged, uncordoned, with its history', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    lab.kubelet.setBehaviour(node.name, 'deaf');
    const name = await begin(lab, node, { drain: true, timeoutSeconds: 3 });
    const operation = await ended(lab, name);
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'BootIDUnchanged' });
    expect(operation.status.history?.map(({ phase }) => phase)).toEqual(['Pending', 'Draining', 'Restarting', 'WaitingForReady', 'Failed']);
    expect(tookMs(operation)).toBeGreaterThanOrEqual(2_900);
    expect(tookMs(operation)).toBeLessThan(3_000 + SLACK_MS);
    expect(reboots(node)).toBe(1);
    await expectReleased(lab, node);
    const last = (await getNode(lab, node.name)).metadata.annotations?.['infraops.michael.io/last-restart'];
    expect(JSON.parse(last ?? '{}')).toMatchObject({ operation: name, requestedBy: 'fairlead-admin' });
  });

  test('R63: a kubelet that comes back without a new boot does not count', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    lab.kubelet.setBehaviour(node.name, 'same-boot-id');
    const { status } = await ended(lab, await begin(lab, node, { timeoutSeconds: 3 }));
    expect(status).toMatchObject({ phase: 'Failed', reason: 'BootIDUnchanged' });
  });

  test('R63: a node that boots and never becomes Ready fails with NodeNotReady, uncordoned', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    lab.kubelet.setBehaviour(node.name, 'never-back');
    const name = await begin(lab, node, { drain: true, timeoutSeconds: 5 });
    await when(lab, name, ({ status }) => status.phase === 'WaitingForReady', 'to wait');
    const body = { status: { nodeInfo: { bootID: crypto.randomUUID() } } };
    await lab.api.json('PATCH', `/api/v1/nodes/${node.name}/status`, { body, contentType: patch.strategic });
    const operation = await ended(lab, name);
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'NodeNotReady' });
    expect(tookMs(operation)).toBeLessThan(5_000 + SLACK_MS);
    expect(reboots(node)).toBe(1);
    await expectReleased(lab, node);
  });

  test('R63: a machine that is terminated while it is waited for fails with MachineGone before the deadline', {
    timeout: TIMEOUT,
  }, async () => {
    const node = takeNode();
    lab.kubelet.setBehaviour(node.name, 'never-back');
    const name = await begin(lab, node, { drain: true, timeoutSeconds: 60 });
    await waitFor(() => reboots(node) === 1, { what: 'the call' });
    await lab.ec2.terminate([node.instanceID]);
    const operation = await ended(lab, name);
    expect(operation.status).toMatchObject({ phase: 'Failed', reason: 'MachineGone' });
    expect(tookMs(operation)).toBeLessThan(30_000);
    await expectReleased(lab, node);
  });

  test('R63: a machine that is terminated already is not called', { timeout: TIMEOUT }, async () => {
    const node = takeNode();
    await lab.ec2.terminate([node.instanceID]);
    const { status } = await ended(lab, await begin(lab, node, { drain: true }));
    expect(status).toMatchObject({ phase: 'Failed', reason: 'MachineGone' });
    expect(arrivals(node)).toBe(0);
    await expectReleased(lab, node);
  });
});
