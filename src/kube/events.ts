import { randomBytes } from 'node:crypto';
import type { KubeClient } from './client.ts';
import { microTime } from './lease.ts';

/** An Event (events.k8s.io/v1) on a cluster-scoped object; those live in the namespace `default`. `note` is cut at 1 kB, as the API demands. */
export type EventInput = {
  regarding: { apiVersion: string; kind: string; name: string; uid?: string };
  type: 'Normal' | 'Warning';
  /** CamelCase, for machines. */
  reason: string;
  /** What was done, at most 128 characters. */
  action: string;
  note: string;
};

export type EventRecorder = (event: EventInput) => void;

/** At most so many Events wait for the API server; more are dropped, because an Event informs and is never the record. */
const MAX_WAITING = 1_000;

/** The API counts bytes, not characters. */
const MAX_NOTE_BYTES = 1_024;

/** The beginning of a text, at most so many bytes of UTF-8 and without half a character at the end. */
function cut(text: string, bytes: number): string {
  const { written } = new TextEncoder().encodeInto(text, new Uint8Array(bytes));
  return written < bytes - 3 ? text : Buffer.from(text).subarray(0, written).toString('utf8');
}

/** A recorder that writes in the background, one Event after another, and drops what it cannot write. */
export function eventRecorder(options: {
  client: KubeClient;
  controller: string;
  instance: string;
  signal: AbortSignal;
  onError?: (error: unknown) => void;
}): EventRecorder {
  const waiting: EventInput[] = [];
  let writing = false;

  async function write(): Promise<void> {
    for (let event = waiting.shift(); event; event = waiting.shift()) {
      const body = {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: {
          name: `${event.regarding.name.slice(0, 200).replace(/[^a-z0-9]+$/, '')}.${randomBytes(8).toString('hex')}`,
          namespace: 'default',
        },
        eventTime: microTime(),
        reportingController: options.controller,
        reportingInstance: options.instance.slice(0, 128),
        action: event.action.slice(0, 128),
        reason: event.reason.slice(0, 128),
        regarding: event.regarding,
        note: cut(event.note, MAX_NOTE_BYTES),
        type: event.type,
      };
      try {
        await options.client.request({ method: 'POST', path: '/apis/events.k8s.io/v1/namespaces/default/events', body, timeoutMs: 5_000 });
      } catch (error) {
        if (options.signal.aborted) return;
        options.onError?.(error);
      }
    }
    // Here, not when the promise is settled: what is recorded in between would wait for the next one.
    writing = false;
  }

  return (event) => {
    if (options.signal.aborted || waiting.length >= MAX_WAITING) return;
    waiting.push(event);
    if (writing) return;
    writing = true;
    write().catch((error: unknown) => {
      writing = false;
      options.onError?.(error);
    });
  };
}
