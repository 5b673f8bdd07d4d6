import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TObject, TSchema } from 'typebox';
import type { UserInfo } from '../auth/user.ts';

/** RBAC verbs that an HTTP method can map to (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb). */
export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

/** What a path asks for. Resource requests are authorised by group, resource, subresource and name; the others by path. */
export type RequestInfo =
  | { kind: 'nonResource'; path: string; verb: string }
  | {
      kind: 'resource';
      path: string;
      verb: Verb;
      group: string;
      version: string;
      resource: string;
      /** '' for the collection. */
      name: string;
      /** '' for the object itself. */
      subresource: string;
      /** What follows the subresource, undecoded, without the leading slash. */
      rest: string;
    };

export type ResourceInfo = Extract<RequestInfo, { kind: 'resource' }>;

/** How a body is read. */
export type BodyOptions = {
  /** In bytes. */
  limit?: number;
  /** Media types that are taken; application/json and application/yaml when absent. The first one counts for a body without a type. */
  types?: readonly BodyType[];
  /** A body without Content-Type that does not look like JSON is read as YAML: `kubectl create --raw` sends files without a type. */
  untypedYaml?: boolean;
};
export type BodyType = 'application/json' | 'application/yaml' | 'application/merge-patch+json';

/** One authenticated and authorised request, as the handler of a resource sees it. */
export type RequestContext = {
  info: ResourceInfo;
  user: UserInfo;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  /** kube-apiserver's Audit-ID when it came along, else one of our own. */
  auditID: string;
  /** Aborted when the client goes away or the server gives up on draining. */
  signal: AbortSignal;
  /** The body; undefined when empty. Throws StatusError 400, 413 or 415. JSON and YAML are read unless `options` say otherwise. */
  body(options?: BodyOptions): Promise<unknown>;
  /** Adds a `Warning: 299` header; kubectl prints it. Only before the answer has begun. */
  warn(text: string): void;
  /** Adds an annotation to the audit line of the request; it is shortened to 1,024 characters. Never a secret. */
  annotate(name: string, value: string): void;
  /** Asks whether the caller may do something beyond the request itself (for example verb `force`). Fails closed. */
  allowed(verb: string): Promise<boolean>;
};

/** A handler's answer: an object (converted to a Table when the client asks), JSON text made before, or a stream it writes itself. */
export type Reply =
  | { code?: number; object: object; headers?: Record<string, string> }
  | { code?: number; json: string | Buffer; headers?: Record<string, string> }
  | { stream: (request: IncomingMessage, response: ServerResponse) => Promise<void> };

export type Handler = (context: RequestContext) => Promise<Reply>;

/** A query parameter, for OpenAPI. */
export type QueryParameter = { name: string; description: string; type: 'string' | 'boolean' | 'integer'; enum?: string[] };

/** One column of the server-side Table; `priority` 1 shows only with `-o wide`. */
export type Column<T> = {
  name: string;
  type: 'string' | 'integer' | 'date';
  format?: string;
  description: string;
  priority?: 0 | 1;
  value: (object: T) => string | number | null;
};

/** A method that changes something. */
export type ChangeMethod = {
  handler: Handler;
  summary: string;
  parameters?: QueryParameter[];
  body?: TObject;
  bodyKind?: string;
  /** Media types of the body, when they are not those of BodyOptions. */
  consumes?: readonly BodyType[];
  /** Success code. */
  code: number;
  /** Schema of the answer, when it is not that of the subresource. */
  response?: TObject;
};

/** The RBAC verbs of ChangeMethods that a subresource can have. */
export const CHANGE_VERBS = ['create', 'update', 'patch', 'delete'] as const;

/** An endpoint under `<resource>/<name>/<subresource>`. */
export type Subresource = {
  name: string;
  /** Kind of the object that is answered or taken (discovery shows it). */
  kind: string;
  /** Schema of what GET answers and changes answer; undefined for text. */
  response?: TObject;
  get?: {
    handler: Handler;
    summary: string;
    parameters?: QueryParameter[];
    produces?: string | readonly string[];
    /** The answer gives power: it is refused while the audit log cannot be written, as a change is. */
    recorded?: boolean;
    /** The handler chooses the media type itself. */
    negotiates?: boolean;
  };
  /** POST. */
  create?: ChangeMethod;
  /** PUT. */
  update?: ChangeMethod;
  patch?: ChangeMethod;
  delete?: ChangeMethod;
  /** Columns of the Table, for objects that `get` answers. */
  columns?: Column<never>[];
  /** What discovery says, when it does not follow from the methods. */
  verbs?: readonly Verb[];
  /** GET streams and has no deadline. */
  longRunning?: boolean;
};

/** A resource of an API group: the one definition behind routes, discovery, OpenAPI and Tables. */
export type ApiResource<T = never> = {
  group: string;
  version: string;
  plural: string;
  singular: string;
  kind: string;
  shortNames?: string[];
  categories?: string[];
  /** Schema of one object, with `apiVersion`, `kind`, `metadata`; descriptions in it feed `kubectl explain`. */
  schema: TObject;
  columns: Column<T>[];
  /** Serves list, and watch when `info.verb` is `watch`. */
  list: Handler;
  get: Handler;
  selectableFields: string[];
  subresources: Subresource[];
  /** What discovery says, when it is not get, list and watch. */
  verbs?: readonly Verb[];
};

/** A schema with a name of its own in the OpenAPI documents. */
export type NamedSchema = { name: string; schema: TSchema };
