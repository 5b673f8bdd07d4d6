const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** The number that a Kubernetes quantity (`7910m`, `32Gi`, `1e3`) means; undefined when it is none. */
export function parseQuantity(text: string | undefined): number | undefined {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(text ?? '');
  if (!match) return undefined;
  const [, digits = '', exponent = '', suffix = ''] = match;
  return Number(digits + exponent) * (SUFFIXES[suffix] ?? 1);
}

/** Cores as a quantity: whole, or in thousandths. */
export function formatCores(cores: number): string {
  const milli = Math.round(cores * 1_000);
  return milli % 1_000 === 0 ? String(milli / 1_000) : `${milli}m`;
}

/** Bytes as a quantity: in KiB when it comes out even, as kubelets report it. */
export function formatBytes(bytes: number): string {
  const whole = Math.round(bytes);
  return whole !== 0 && whole % 1_024 === 0 ? `${whole / 1_024}Ki` : String(whole);
}
