import type { LifecycleOperation, OperationPhase, StepState } from '../../../kube/lifecycle.ts';
import type { OperationRequest, WrittenFile } from './request.ts';

/**
 * What stood at a path before. `absent`: nothing. `folder-absent`: nothing; a folder was made on the way to a file, and goes again when it is empty. `copy`: a copy at `file`.
 * `kept`: neither file, folder nor link (a socket): left alone.
 */
export type Image = { step: string; path: string; kind: 'absent' | 'folder-absent' | 'copy' | 'kept'; file: string };

/** A step of an earlier Install that Delete takes back, and the folder that it kept its own files in. */
export type InstalledStep = { name: string; folder: string };

type At = { at: string };
export type BeginRecord = At & { kind: 'begin'; id: string; request: OperationRequest; steps: string[]; installed: InstalledStep[] };
/** One line of a journal. `at`: RFC 3339. */
export type JournalRecord =
  | BeginRecord
  | (At & { kind: 'step'; step: string; state: StepState })
  | (At & { kind: 'action'; step: string; undo: boolean; index: number; what: string; command: boolean; edge: 'begin' | 'end' })
  | (At & { kind: 'image'; image: Image })
  | (At & { kind: 'written'; file: WrittenFile })
  | (At & { kind: 'removed'; path: string })
  | (At & { kind: 'resumed'; step: string | undefined })
  | (At & { kind: 'undoing'; message: string; nextCommand?: string })
  | (At & { kind: 'remains'; step: string; message: string; nextCommand?: string })
  | (At & { kind: 'ended'; phase: OperationPhase; message?: string; nextCommand?: string })
  | (At & { kind: 'recorded' });

export type StepProgress = { name: string; state: StepState; startedAt?: string; endedAt?: string };
export type Remains = { step: string; message: string; nextCommand?: string };

/** What the records of a journal add up to. */
export type OperationState = {
  id: string;
  request: OperationRequest;
  installed: readonly InstalledStep[];
  startedAt: string;
  phase: OperationPhase;
  steps: StepProgress[];
  /** Steps that were Running at some time: they may have changed something. */
  begun: Set<string>;
  images: Image[];
  /** Whether a command has begun and not ended: it may still run when the agent has died. */
  acting: boolean;
  /** Last word on each path; undefined: removed. */
  written: Map<string, WrittenFile | undefined>;
  /** How many times a step was taken up again, and the operation as a whole. */
  resumedIn: Map<string, number>;
  resumed: number;
  failure: { message: string; nextCommand?: string } | undefined;
  remains: Remains[];
  ended: { at: string; message?: string; nextCommand?: string } | undefined;
  /** Whether all listeners have heard of the end. */
  recorded: boolean;
};

export function stateOf(begin: BeginRecord): OperationState {
  return {
    id: begin.id,
    request: begin.request,
    installed: begin.installed,
    startedAt: begin.at,
    phase: 'Running',
    steps: begin.steps.map((name) => ({ name, state: 'Pending' })),
    begun: new Set(),
    images: [],
    acting: false,
    written: new Map(),
    resumedIn: new Map(),
    resumed: 0,
    failure: undefined,
    remains: [],
    ended: undefined,
    recorded: false,
  };
}

/** Changes `state` by one record. */
export function apply(state: OperationState, record: JournalRecord): void {
  if (record.kind === 'step') {
    const step = state.steps.find(({ name }) => name === record.step);
    if (!step) return;
    step.state = record.state;
    if (record.state === 'Running') state.begun.add(record.step);
    if (record.state === 'Running' || step.startedAt === undefined) step.startedAt = record.at;
    if (record.state === 'Running' || record.state === 'Undoing') delete step.endedAt;
    else step.endedAt = record.at;
  } else if (record.kind === 'action') state.acting = record.command && record.edge === 'begin';
  else if (record.kind === 'image') state.images.push(record.image);
  else if (record.kind === 'written') state.written.set(record.file.path, record.file);
  else if (record.kind === 'removed') {
    for (const path of state.written.keys()) if (path.startsWith(`${record.path}/`)) state.written.set(path, undefined);
    state.written.set(record.path, undefined);
  } else if (record.kind === 'resumed') {
    state.resumed++;
    if (record.step !== undefined) state.resumedIn.set(record.step, (state.resumedIn.get(record.step) ?? 0) + 1);
  } else if (record.kind === 'undoing') {
    state.phase = 'Undoing';
    state.failure = said(record);
  } else if (record.kind === 'remains') {
    state.remains.push({ step: record.step, ...said(record) });
    apply(state, { kind: 'step', step: record.step, state: 'Failed', at: record.at });
  } else if (record.kind === 'ended') {
    state.phase = record.phase;
    const { message, nextCommand } = record;
    state.ended = { at: record.at, ...(message !== undefined && { message }), ...(nextCommand !== undefined && { nextCommand }) };
  } else if (record.kind === 'recorded') state.recorded = true;
}

const said = ({ message, nextCommand }: { message: string; nextCommand?: string }) => ({
  message,
  ...(nextCommand !== undefined && { nextCommand }),
});

/** As it is shown. */
export function shown(state: OperationState): LifecycleOperation {
  const { message, nextCommand } = state.ended ?? state.failure ?? {};
  const { requester, type, version } = state.request;
  return {
    id: state.id,
    type,
    phase: state.phase,
    requestedBy: requester.user,
    ...(requester.auditID !== '' && { auditID: requester.auditID }),
    startedAt: state.startedAt,
    ...(state.ended && { endedAt: state.ended.at }),
    ...(version !== '' && { version }),
    ...(message !== undefined && { message }),
    ...(nextCommand !== undefined && { nextCommand }),
    ...(state.resumed > 0 && { resumed: state.resumed }),
    steps: state.steps.map((step) => ({ ...step })),
  };
}
