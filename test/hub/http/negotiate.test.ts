import { expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  encodeObject,
  LIST_CONVERSIONS,
  negotiate,
  OBJECT_CONVERSIONS,
  OBJECT_TYPES,
  parseAccept,
  tryNegotiate,
} from '../../../src/hub/http/negotiate.ts';

const KUBECTL_GET = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json';

test.each([
  [undefined, 'application/json', undefined],
  ['', 'application/json', undefined],
  ['*/*', 'application/json', undefined],
  ['application/*', 'application/json', undefined],
  ['application/yaml', 'application/yaml', undefined],
  ['application/json, */*', 'application/json', undefined],
  ['text/html, application/yaml;q=0.9, */*;q=0.1', 'application/yaml', undefined],
  ['application/yaml;q=0.2,application/json;q=0.8', 'application/json', undefined],
  ['*/*,application/yaml', 'application/yaml', undefined],
  ['APPLICATION/JSON; Q=0.5', 'application/json', undefined],
  ['application/json;charset=utf-8', 'application/json', undefined],
  [KUBECTL_GET, 'application/json', 'Table'],
  ['application/json;as=Table;g=meta.k8s.io;v=v1;q=0.1,application/json', 'application/json', undefined],
  ['application/json; as="Table" ; v=v1 ; g=meta.k8s.io', 'application/json', 'Table'],
  ['application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json', 'application/json', undefined],
  ['application/yaml;as=Table;v=v1;g=meta.k8s.io', 'application/yaml', 'Table'],
  [
    'application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json',
    'application/json',
    'PartialObjectMetadata',
  ],
  ['application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json', 'application/json', undefined],
  ['application/json;stream=watch', 'application/json', undefined],
  ['application/json;stream=tail,application/yaml;sv=v1,application/yaml;q=0.1', 'application/yaml', undefined],
  ['garbage,,;;=;q,application/json', 'application/json', undefined],
])('Accept %s -> %s %s', (accept, mediaType, kind) => {
  const found = negotiate(accept, OBJECT_TYPES, OBJECT_CONVERSIONS);
  expect(found.mediaType).toBe(mediaType);
  expect(found.convert?.kind).toBe(kind);
});

test.each([
  'text/plain',
  'application/vnd.kubernetes.protobuf',
  'application/json;q=0',
  'application/json;as=Table;v=v1beta1;g=meta.k8s.io',
  'a/b/c',
  'json',
])('Accept %s is a 406 that names what there is', (accept) => {
  expect(() => negotiate(accept, OBJECT_TYPES, OBJECT_CONVERSIONS)).toThrow(
    /^only the following media types are accepted: application\/json, application\/yaml, application\/json;as=Table;v=v1;g=meta\.k8s\.io/,
  );
});

test('a list converts to PartialObjectMetadataList, not to a single one', () => {
  const ask = (kind: string) => tryNegotiate(`application/json;as=${kind};g=meta.k8s.io;v=v1`, OBJECT_TYPES, LIST_CONVERSIONS);
  expect(ask('PartialObjectMetadataList')?.convert?.kind).toBe('PartialObjectMetadataList');
  expect(ask('PartialObjectMetadata')).toBeUndefined();
});

test('q comes before specificity, specificity before order', () => {
  const order = parseAccept('*/*, a/*, a/b, c/d;q=0.9, e/f;q=nonsense').map((clause) => `${clause.type}/${clause.subtype}`);
  expect(order).toEqual(['a/b', 'e/f', 'a/*', '*/*', 'c/d']);
});

test('JSON, indented JSON and YAML say the same', () => {
  const metadata = { name: 'n', labels: { on: 'yes', port: '080' } };
  const object = { items: [{ metadata }, { metadata }] };
  expect(JSON.parse(encodeObject(object, 'application/json'))).toEqual(object);
  expect(encodeObject(object, 'application/json', 'true')).toContain('\n  "items"');
  expect(encodeObject(object, 'application/json', 'false')).not.toContain('\n  ');
  const yaml = encodeObject(object, 'application/yaml');
  expect(yaml).not.toContain('&');
  expect(parse(yaml)).toEqual(object);
});
