import { type TObject, Type } from 'typebox';
import { ListMeta } from '../http/meta.ts';

const text = (description: string) => Type.Optional(Type.String({ description }));
const number = (description: string) => Type.Optional(Type.Integer({ format: 'int32', description }));

const StatusCause = Type.Object(
  {
    reason: text('What is wrong, in one word.'),
    message: text('What is wrong, for people.'),
    field: text('The field that is meant, for example spec.nodeName.'),
  },
  { $id: 'io.k8s.apimachinery.pkg.apis.meta.v1.StatusCause', description: 'One of several causes of an error: a field, or a guard.' },
);

const StatusDetails = Type.Object(
  {
    name: text('Name of the object that the error is about.'),
    group: text('API group of that object.'),
    kind: text('Resource of that object.'),
    uid: text('UID of that object.'),
    causes: Type.Optional(Type.Array(StatusCause, { description: 'The single causes.' })),
    retryAfterSeconds: number('When the request may be repeated, in seconds.'),
  },
  { $id: 'io.k8s.apimachinery.pkg.apis.meta.v1.StatusDetails', description: 'More on an error, for programs.' },
);

/** The schema of every error answer. */
export const StatusSchema: TObject = Type.Object(
  {
    apiVersion: text('v1.'),
    kind: text('Status.'),
    metadata: Type.Optional(ListMeta),
    status: text('Success or Failure.'),
    message: text('What happened, for people.'),
    reason: text('What happened, in one word.'),
    details: Type.Optional(StatusDetails),
    code: number('The HTTP status code.'),
  },
  { $id: 'io.k8s.apimachinery.pkg.apis.meta.v1.Status', description: 'The answer to a request that gives no object: an error, mostly.' },
);
