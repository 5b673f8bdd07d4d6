/** Answers of the API server, kept for a short time, with questions in flight shared. */
export type AnswerCache<T> = {
  /** The kept answer, the one on its way, or a new one from `ask`. A failed `ask` is not kept. Throws `overloaded()` when too many are on their way. */
  get(key: string, ask: () => Promise<T>): Promise<T>;
  /** Kept answers, for tests and metrics. */
  readonly size: number;
};

export type AnswerCacheOptions<T> = {
  /** How long an answer counts, in milliseconds from when the question was SENT: what was revoked since then is seen no later. */
  ttlMs: number;
  /** Answers kept per shelf; the one used longest ago goes first. */
  capacity: number;
  /** Questions on their way at the same time. */
  maxInFlight: number;
  overloaded: () => Error;
  /** Milliseconds, monotonic. */
  now: () => number;
  /** Answers of different shelves do not push each other out. */
  shelf?: (answer: T) => string;
};

export function answerCache<T>(options: AnswerCacheOptions<T>): AnswerCache<T> {
  const { ttlMs, capacity, maxInFlight, now } = options;
  const shelves = new Map<string, Map<string, { answer: T; until: number }>>();
  const flights = new Map<string, Promise<T>>();

  function find(key: string): { answer: T } | undefined {
    for (const shelf of shelves.values()) {
      const entry = shelf.get(key);
      if (!entry) continue;
      shelf.delete(key);
      if (now() >= entry.until) continue;
      shelf.set(key, entry);
      return entry;
    }
    return undefined;
  }

  function keep(key: string, answer: T, until: number): void {
    const name = options.shelf?.(answer) ?? '';
    const shelf = shelves.get(name) ?? new Map<string, { answer: T; until: number }>();
    shelves.set(name, shelf);
    shelf.delete(key);
    shelf.set(key, { answer, until });
    for (const oldest of shelf.keys()) {
      if (shelf.size <= capacity) break;
      shelf.delete(oldest);
    }
  }

  async function fly(key: string, ask: () => Promise<T>): Promise<T> {
    const sent = now();
    const answer = await ask();
    keep(key, answer, sent + ttlMs);
    return answer;
  }

  return {
    get size() {
      return [...shelves.values()].reduce((sum, shelf) => sum + shelf.size, 0);
    },
    async get(key, ask) {
      const kept = find(key);
      if (kept) return kept.answer;
      const underway = flights.get(key);
      if (underway !== undefined) return underway;
      if (flights.size >= maxInFlight) throw options.overloaded();
      const flight = fly(key, ask).finally(() => flights.delete(key));
      flights.set(key, flight);
      return flight;
    },
  };
}
