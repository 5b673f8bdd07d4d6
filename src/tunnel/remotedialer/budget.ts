/** Counts what should be rare. The returned function is called for each, and false means that there were too many: more than `burst` at once and `perSecond`. */
export function budget(burst: number, perSecond: number, now: () => number = () => performance.now()): () => boolean {
  let left = burst;
  let at = now();
  return () => {
    const time = now();
    left = Math.min(burst, left + ((time - at) / 1000) * perSecond);
    at = time;
    left -= 1;
    return left >= 0;
  };
}
