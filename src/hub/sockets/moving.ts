import type { TunnelEnd } from './tunnel-directory.ts';

/** How long an agent that went elsewhere is waited for: replicas tell each other of tunnels in milliseconds, but one that has just started must be found first. */
export const MOVE_MS = 3_000;
/** Between two looks for it. */
export const MOVE_LOOK_MS = 25;

/** Whether the agent went elsewhere so short a time ago that this replica may not know yet where it is. */
export const isMoving = (end: TunnelEnd | undefined): boolean => end?.left === true && performance.now() - end.at < MOVE_MS;
