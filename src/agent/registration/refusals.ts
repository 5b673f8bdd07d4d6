/** Refusals of one credential in a row. */
export type Refusals = {
  /** Notes what the parent said to the credential this time. */
  note(refused: boolean): void;
  /** They have gone on for so long that the credential counts as taken back, although no object says so. */
  takenBack(): boolean;
};

/** Fewer are no proof, however far apart: a process that was stopped asks seldom. */
const TIMES = 3;

/**
 * Tells a credential that was taken back from a parent that cannot judge it yet. kube-apiserver answers 403 until it has read the roles, a balancer without a server behind it 403 or
 * 404; both pass within seconds, and an answer of any other kind in between begins the count anew. Nothing is lost by patience: the hub itself ends the tunnels of who was denied.
 */
export function refusals(lastingMs: number, now: () => number = () => performance.now()): Refusals {
  let [times, since] = [0, 0];
  return {
    note(refused) {
      if (refused && times === 0) since = now();
      times = refused ? times + 1 : 0;
    },
    takenBack: () => times >= TIMES && now() - since >= lastingMs,
  };
}
