import { VETO } from '../annotations.ts';
import { type Guard, pass, refuse, STARTS } from './guard.ts';

/** People's word: an annotation on the Node says that its machine must not be touched, and why. */
export const veto: Guard = {
  name: 'Veto',
  forceable: true,
  recheck: true,
  check({ node, spec }) {
    if (spec.action === 'Start') return STARTS;
    if (node.veto === undefined) return pass('no veto on the node');
    return refuse(
      `annotation ${VETO} says: ${node.veto.slice(0, 256) || '(no reason given)'}`,
      `kubectl annotate node ${node.name} ${VETO}-`,
    );
  },
};
