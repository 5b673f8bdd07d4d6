import type { IncomingMessage } from 'node:http';

export type PowerAction = 'RebootInstances' | 'StopInstances' | 'StartInstances';
export const powerActions: readonly string[] = ['RebootInstances', 'StopInstances', 'StartInstances'] satisfies PowerAction[];

/** One call of the EC2 query API as it arrived, and how it was answered. Times are milliseconds since the epoch. */
export type Ec2Call = {
  action: string;
  instanceIDs: readonly string[];
  dryRun: boolean;
  /** `Force` of StopInstances. */
  force: boolean;
  /** Region and access key by the signature's credential scope; '' when the call was not signed. */
  region: string;
  accessKeyID: string;
  receivedAt: number;
  answeredAt?: number;
  /** HTTP status of the answer of moto or of a fault; undefined while open and when the call was dropped before it was forwarded. */
  status?: number;
  /** EC2's error code. */
  code?: string;
  requestID?: string;
  /** moto answered 200 and this was no dry run: the effect is there, even if the caller never got the answer. */
  accepted: boolean;
};

/** Reads action, instances and flags from the form-encoded body and the scope from the Authorization header. */
export function parseEc2Call(request: IncomingMessage, body: Buffer): Ec2Call {
  const form = new URLSearchParams(body.toString('utf8'));
  const scope = /Credential=([^/,]+)\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? '');
  const instanceIDs = [...form].filter(([name]) => /^InstanceIds?\.\d+$/.test(name)).map(([, value]) => value);
  return {
    action: form.get('Action') ?? '',
    instanceIDs,
    dryRun: form.get('DryRun') === 'true',
    force: form.get('Force') === 'true',
    accessKeyID: scope?.[1] ?? '',
    region: scope?.[2] ?? '',
    receivedAt: Date.now(),
    accepted: false,
  };
}

/** Fills in the outcome from moto's answer. */
export function recordAnswer(call: Ec2Call, status: number, body: string): void {
  const code = /<Code>([^<]*)<\/Code>/.exec(body)?.[1];
  const requestID = /<request(?:Id|ID)>([^<]*)</i.exec(body)?.[1];
  call.answeredAt = Date.now();
  call.status = status;
  if (code !== undefined) call.code = code;
  if (requestID !== undefined) call.requestID = requestID;
  call.accepted = status === 200 && !call.dryRun;
}

const escapeXML = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** An error document of the EC2 query API. */
export function ec2ErrorBody(code: string, message: string, requestID: string): string {
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    `<Response><Errors><Error><Code>${escapeXML(code)}</Code><Message>${escapeXML(message)}</Message></Error></Errors>` +
    `<RequestID>${requestID}</RequestID></Response>`
  );
}
