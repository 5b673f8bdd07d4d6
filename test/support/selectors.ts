/** Label and field selectors as the in-memory API understands them: `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`. */

type Labelled = { metadata: { name: string; namespace?: string; labels?: Record<string, string> } };

/** Whether the object is selected. Throws an Error for a form that is not known here, so that a test cannot pass by accident. */
export function selects(object: Labelled, labelSelector: string, fieldSelector: string): boolean {
  const labels = object.metadata.labels ?? {};
  return labelTerms(labelSelector).every((term) => labelMatches(labels, term)) && fieldsMatch(object, fieldSelector);
}

const labelTerms = (selector: string) => selector.split(/,(?![^(]*\))/).filter((term) => term !== '');

function labelMatches(labels: Record<string, string>, term: string): boolean {
  const inList = /^(\S+) (in|notin) \(([^)]*)\)$/.exec(term);
  if (inList) {
    const [, key = '', operator, list = ''] = inList;
    const found = list.split(',').includes(labels[key] ?? '\0');
    return operator === 'in' ? found : !found;
  }
  const equality = /^([^=!]+)(==|=|!=)(.*)$/.exec(term);
  if (equality) {
    const [, key = '', operator, value = ''] = equality;
    return operator === '!=' ? labels[key] !== value : labels[key] === value;
  }
  if (/^!?[\w./-]+$/.test(term)) return term.startsWith('!') ? !(term.slice(1) in labels) : term in labels;
  throw new Error(`label selector ${term} is not known to the in-memory API`);
}

function fieldsMatch(object: Labelled, selector: string): boolean {
  return selector
    .split(',')
    .filter((term) => term !== '')
    .every((term) => {
      const match = /^([\w.]+)(==|=|!=)(.*)$/.exec(term);
      if (!match) throw new Error(`field selector ${term} is not known to the in-memory API`);
      const [, path = '', operator, value = ''] = match;
      let at: unknown = object;
      for (const key of path.split('.')) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined;
      const same = String(at ?? (path === 'spec.unschedulable' ? false : '')) === value;
      return operator === '!=' ? !same : same;
    });
}
