import { type Guard, pass, refuse, STARTS } from './guard.ts';

/** A pause between two restarts of the same node, against restart loops. `cooldownMs` 0 turns it off. */
export function cooldown(cooldownMs: number): Guard {
  return {
    name: 'Cooldown',
    forceable: true,
    recheck: false,
    check({ node, spec, now }) {
      if (spec.action === 'Start') return STARTS;
      if (!node.lastRestart) return pass('no restart through this API is known');
      // A time in the future is a clock that was set back: it counts as just now, because too early is worse than too late.
      const elapsed = Math.max(0, now.getTime() - Date.parse(node.lastRestart.time));
      const seconds = Math.round(elapsed / 1000);
      if (elapsed >= cooldownMs) return pass(`the last restart was ${seconds} s ago`);
      return refuse(
        `the node was restarted ${seconds} s ago${node.lastRestart.requestedBy ? ` by ${node.lastRestart.requestedBy}` : ''}; the pause is ${Math.round(cooldownMs / 1000)} s`,
        `wait ${Math.ceil((cooldownMs - elapsed) / 1000)} s`,
      );
    },
  };
}
