import type { StatusCause } from '../../../kube/status.ts';
import { type Cidr, contains, overlaps, parseCidr } from '../distributions/common/cidr.ts';

const POD = 'spec.networking.podSubnet';
const SERVICE = 'spec.networking.svcSubnet';

const wrong = (field: string, value: string, why: string): StatusCause => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value.slice(0, 128))}: ${why}`,
  field,
});

function parseList(field: string, value: string, causes: StatusCause[]): Cidr[] {
  const texts = value.split(',').map((text) => text.trim());
  const subnets: Cidr[] = [];
  for (const text of texts) {
    const subnet = parseCidr(text);
    if (subnet) subnets.push(subnet);
    else causes.push(wrong(field, text, 'must be a range of addresses such as 10.42.0.0/16, without bits behind the prefix'));
  }
  if (texts.length > 2) causes.push(wrong(field, value, 'at most two ranges, one of IPv4 and one of IPv6'));
  else if (subnets.length === 2 && subnets[0]?.family === subnets[1]?.family) {
    causes.push(wrong(field, value, 'two ranges must be one of IPv4 and one of IPv6'));
  }
  return subnets;
}

/** What is wrong with the ranges of pods and Services: form, families, and addresses in common with each other or with the machine (`addresses`). */
export function subnetProblems(pods: string | undefined, services: string | undefined, addresses: readonly string[]): StatusCause[] {
  const causes: StatusCause[] = [];
  const podRanges = pods ? parseList(POD, pods, causes) : [];
  const serviceRanges = services ? parseList(SERVICE, services, causes) : [];
  if (causes.length > 0) return causes;
  for (const service of serviceRanges) {
    const same = podRanges.find((pod) => overlaps(pod, service));
    if (same) causes.push(wrong(SERVICE, service.text, `overlaps with ${POD} ${same.text}`));
  }
  const families = (subnets: readonly Cidr[]) => subnets.map(({ family }) => family).join(',');
  if (podRanges.length > 0 && serviceRanges.length > 0 && families(podRanges) !== families(serviceRanges)) {
    causes.push(wrong(SERVICE, services ?? '', `must have the same families of addresses, in the same order, as ${POD}`));
  }
  for (const [field, ranges] of [[POD, podRanges] as const, [SERVICE, serviceRanges] as const]) {
    for (const range of ranges) {
      const own = addresses.find((address) => contains(range, address));
      if (own !== undefined) causes.push(wrong(field, range.text, `holds the machine's own address ${own}`));
    }
  }
  return causes;
}
