const HIDDEN = '(hidden)';

const FORMS: readonly [RegExp, string][] = [
  [/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g, HIDDEN],
  // Bootstrap tokens, JWTs, k3s tokens.
  [/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g, HIDDEN],
  [/\beyJ[\w-]{8,}\.[\w-]+(\.[\w-]*)?/g, HIDDEN],
  [/\bK10[0-9a-f]{16,}::\S+/g, HIDDEN],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, `$1 ${HIDDEN}`],
  [/((?:client-key-data|certificate-key|password|passwd|secret|token)["']?\s*[=:]\s*["']?)[^\s"',;]+/gi, `$1${HIDDEN}`],
  [/(--(?:certificate-key|password|token|secret)[= ])\S+/gi, `$1${HIDDEN}`],
  // User and password in a URL.
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@:]+:[^\s/@]+@/gi, `$1${HIDDEN}@`],
  // What stands alone on a line of a PEM key whose begin was on another line.
  [/^[A-Za-z0-9+/]{64}={0,2}$/gm, HIDDEN],
];

/** Blanks `values` and everything that has the form of a key, a token or a password. Text that leaves the machine or is kept goes through it. */
export function redactor(values: () => readonly string[]): (text: string) => string {
  return (text) => {
    let clean = text;
    // Shorter ones would blank ordinary words.
    for (const value of values()) if (value.length >= 4) clean = clean.replaceAll(value, HIDDEN);
    for (const [form, instead] of FORMS) clean = clean.replace(form, instead);
    return clean;
  };
}

/** Values of an environment that are secret by their names. */
export function secretValues(environment: Readonly<Record<string, string>> = {}): string[] {
  return Object.entries(environment).flatMap(([name, value]) => (/pass|secret|token|key|auth/i.test(name) ? [value] : []));
}
