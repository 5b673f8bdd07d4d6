import { Registry } from 'prom-client';
import { expect, it, vi } from 'vitest';
import { eventLoopLag } from '../../src/agent/api/event-loop-lag.ts';

async function scrape(registry: Registry, series: string): Promise<number> {
  const found = new RegExp(`^nodejs_eventloop_lag_${series}_seconds (\\S+)$`, 'm').exec(await registry.metrics());
  return Number(found?.[1]);
}

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

it('an idle event loop has next to no lag: the resolution of the sampler is not part of it', async () => {
  const registry = new Registry();
  eventLoopLag(registry);
  expect(await scrape(registry, 'p99'), 'before the first tick').toBe(0);
  await vi.waitFor(async () => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await scrape(registry, 'p50')).toBeLessThan(0.05);
  }, 10_000);
});

it('a loop that was held up shows for how long, until the next scrape', async () => {
  const registry = new Registry();
  eventLoopLag(registry);
  await vi.waitFor(async () => {
    await new Promise((resolve) => setTimeout(resolve, 250));
    block(700);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await scrape(registry, 'max')).toBeGreaterThan(0.5);
  }, 10_000);
  await vi.waitFor(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await scrape(registry, 'max')).toBeLessThan(0.3);
  }, 10_000);
});
