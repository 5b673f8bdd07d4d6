import { type Static, type TObject, Type } from 'typebox';

const time = (description: string) => Type.String({ format: 'date-time', description });

/** ObjectMeta as far as this server reads or writes it. A schema with `$id` becomes a component of the OpenAPI documents under that name. */
export const ObjectMeta = Type.Object(
  {
    name: Type.Optional(Type.String({ description: 'Name of the object; unique among the objects of its kind.' })),
    generateName: Type.Optional(Type.String({ description: 'Prefix of a generated name.' })),
    namespace: Type.Optional(Type.String({ description: 'Empty: the objects of this API are cluster-scoped.' })),
    uid: Type.Optional(Type.String({ description: 'Unique in time and space.' })),
    resourceVersion: Type.Optional(Type.String({ description: 'Opaque version of the core object behind this view.' })),
    generation: Type.Optional(Type.Integer({ format: 'int64', description: 'Sequence number of the desired state.' })),
    creationTimestamp: Type.Optional(time('When the object was made.')),
    deletionTimestamp: Type.Optional(time('When the object will be gone.')),
    labels: Type.Optional(Type.Record(Type.String(), Type.String(), { description: 'Labels, for selectors.' })),
    annotations: Type.Optional(Type.Record(Type.String(), Type.String(), { description: 'Annotations.' })),
  },
  { $id: 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta', description: 'Standard metadata of an object.' },
);
export type ObjectMeta = Static<typeof ObjectMeta>;

export const ListMeta = Type.Object(
  {
    resourceVersion: Type.Optional(Type.String({ description: 'Opaque version of the list, to start a watch from.' })),
    continue: Type.Optional(Type.String({ description: 'Token for the next page; empty at the end.' })),
    remainingItemCount: Type.Optional(Type.Integer({ format: 'int64', description: 'How many items are left, when known.' })),
  },
  { $id: 'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta', description: 'Standard metadata of a list.' },
);
export type ListMeta = Static<typeof ListMeta>;

const typeFields = {
  apiVersion: Type.Optional(Type.String({ description: 'Version of the schema, for example infraops.michael.io/v1.' })),
  kind: Type.Optional(Type.String({ description: 'Kind of the object.' })),
};

/** The schema of a Kubernetes object with the given further properties (`spec`, `status`). */
export function objectSchema<P extends Record<string, import('typebox').TSchema>>(
  name: string,
  description: string,
  properties: P,
): TObject<typeof typeFields & { metadata: import('typebox').TOptional<typeof ObjectMeta> } & P> {
  return Type.Object({ ...typeFields, metadata: Type.Optional(ObjectMeta), ...properties }, { $id: name, description });
}
