import type { ApiAnswer, ApiRequest } from '../lifecycle/api/request.ts';
import type { LifecycleApi } from '../lifecycle/api/rest.ts';
import type { AgentAnswers } from './answers.ts';

/** Answers every request to the agent itself, but for the open health port, which has AgentAnswers only. */
export type AgentApi = (request: ApiRequest) => Promise<ApiAnswer>;

/** `lifecycle` is undefined for an agent that does not keep a cluster's life, or not yet. */
export function agentApi(answers: AgentAnswers, lifecycle: () => LifecycleApi | undefined): AgentApi {
  return async (request) => (await lifecycle()?.(request)) ?? (await answers(request.method, request.target));
}

/** An error of an entrance, as a Status. */
export function refusal(code: number, reason: string, message: string): ApiAnswer {
  const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
  return { code, contentType: 'application/json', body: `${JSON.stringify(status)}\n` };
}
