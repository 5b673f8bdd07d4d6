import { GROUP } from './schema.ts';

/** Annotations and labels that this room writes or reads on core objects. */

/** On a Node: the operation that runs on it. */
export const RUNNING_OPERATION = `${GROUP}/operation`;
/** On a Node: JSON `{time, operation, requestedBy}` of the last restart that reached the cloud. */
export const LAST_RESTART = `${GROUP}/last-restart`;
/** On a Node, by people: why its machine must not be restarted or stopped. */
export const VETO = `${GROUP}/veto`;
/** On a Node: the operation that cordoned it. */
export const CORDONED_BY = `${GROUP}/cordoned-by`;

/** On the audit line of a request: the operation that it made or met, and what of its options an auditor looks for; the body itself is not recorded. */
export const AUDIT_OPERATION = `${GROUP}/operation`;
export const AUDIT_REASON = `${GROUP}/reason`;
export const AUDIT_FORCE = `${GROUP}/force`;
export const AUDIT_DISABLE_EVICTION = `${GROUP}/disable-eviction`;
export const AUDIT_DRY_RUN = `${GROUP}/dry-run`;

/** On a ConfigMap: what it holds, `operation` or `ledger`. */
export const OBJECT_LABEL = `${GROUP}/object`;
export const NODE_LABEL = `${GROUP}/node`;
export const ACTION_LABEL = `${GROUP}/action`;
export const PHASE_LABEL = `${GROUP}/phase`;
