/** Clusters whose last tunnel is remembered after its end. */
const MOST = 20_000;

/** Notes the end of a cluster's last tunnel. Of too many those that ended first are forgotten: ids come and go for ever, memory does not grow with them. */
export function noteEnd<T>(ends: Map<string, T>, id: string, end: T, most = MOST): void {
  // Anew, so that the order of the map is that of the ends.
  ends.delete(id);
  if (ends.size >= most) for (const oldest of [...ends.keys()].slice(0, Math.ceil(most / 10))) ends.delete(oldest);
  ends.set(id, end);
}
