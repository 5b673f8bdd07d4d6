import { afterEach } from 'vitest';

/** What has to be undone after each test, newest first, also when it fails. */
export function cleanUp(): { after(undo: () => unknown): void; signal(): AbortSignal } {
  const undos: (() => unknown)[] = [];
  afterEach(async () => {
    for (const undo of undos.splice(0).reverse()) await undo();
  });
  return {
    after: (undo) => void undos.push(undo),
    /** A signal that is aborted after the test. */
    signal() {
      const controller = new AbortController();
      undos.push(() => controller.abort());
      return controller.signal;
    },
  };
}
