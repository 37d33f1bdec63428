// openapi.yaml against the sources it describes, against itself, and against what the daemon really answers.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import addFormats from 'ajv-formats';
import Ajv from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { Daemon, LONG, ROOT, assertError, until } from './harness.mjs';

const source = (name) => fs.readFileSync(path.join(ROOT, name), 'utf8');
const document = parse(source('openapi.yaml'));

// Answers may get further members; those of this version are all in the file.
function close(node) {
  if (node === null || typeof node !== 'object') {
    return node;
  }
  const copy = Array.isArray(node)
    ? node.map(close)
    : Object.fromEntries(Object.entries(node).map(([name, value]) => [name, close(value)]));
  if (copy.type === 'object' && copy.properties) {
    copy.additionalProperties ??= false;
  }
  return copy;
}

function schemasOf(root) {
  const ajv = new Ajv({ strict: true, allowUnionTypes: true, strictTypes: false, strictRequired: false });
  addFormats(ajv);
  // Of OpenAPI, not of JSON Schema: the root, in which the references are looked up.
  ajv.addVocabulary(['discriminator', 'x-event-data', ...Object.keys(root)]);
  ajv.addSchema(root, 'api', undefined, false);
  return (pointer) => {
    const validate = ajv.getSchema(`api${pointer}`);
    assert.ok(validate, `no schema at ${pointer}`);
    return validate;
  };
}

const asRead = schemasOf(document);
// Those of creating are closed already, and are made of each other.
const { CreateFields, CreateVideo, CreateVideoForm, ...others } = document.components.schemas;
const schemas = { ...close(others), CreateFields, CreateVideo, CreateVideoForm };
const strictly = schemasOf({ ...document, components: { ...document.components, schemas } });

function assertValid(validate, value, what) {
  assert.ok(validate(value), `${what}: ${JSON.stringify(validate.errors)}\n${JSON.stringify(value)}`);
}

const step = (name) => encodeURIComponent(String(name).replaceAll('~', '~0').replaceAll('/', '~1'));

// Everything in the file, with its JSON pointer; what aliases share comes once for each place.
function* nodes(node, pointer = '#') {
  yield [node, pointer];
  if (node !== null && typeof node === 'object') {
    for (const [name, value] of Object.entries(node)) {
      yield* nodes(value, `${pointer}/${step(name)}`);
    }
  }
}

function find(pointer) {
  return pointer
    .slice(2)
    .split('/')
    .map((name) => decodeURIComponent(name).replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce((node, name) => node?.[name], document);
}

const resolve = (node) => (node?.$ref ? resolve(find(node.$ref)) : node);

// ---- the file ----

test('routes: those of the router', () => {
  const table = /static const struct route routes\[\] = \{\n(.*?)\n\};/s.exec(source('api/router.c'))[1];
  const routes = table.split('\n').map((line) => {
    const [, method, target, handler] =
      /^ {4}\{HTTP_([A-Z]+), "([^"]+)", (\w+)\},$/.exec(line) ?? assert.fail(`router.c: ${line}`);
    return { name: `${method} ${target}`, target, handler };
  });
  const described = Object.entries(document.paths).flatMap(([target, item]) =>
    Object.keys(item)
      .filter((name) => /^(get|put|post|delete|options|head|patch|trace)$/.test(name))
      .map((name) => `${name.toUpperCase()} ${target}`),
  );
  const offered = routes.filter((r) => r.handler !== 'not_offered');
  assert.deepEqual(described.sort(), offered.map((r) => r.name).sort());
  const missing = routes.filter((r) => r.handler === 'not_offered');
  assert.ok(missing.length > 0);
  const sentence = /The routes (.*?) are known, but/s.exec(document.info.description)[1];
  const named = [...sentence.matchAll(/`(?:POST )?(\/[^`]+)`/g)].map((m) => m[1]);
  assert.deepEqual(named.sort(), missing.map((r) => r.target).sort());
});

test('error codes: those of api_codes.def', () => {
  const rows = [...source('api/api_codes.def').matchAll(/^API_CODE\(\w+, "(\w+)", \d+, "(\w+)"/gm)];
  assert.ok(rows.length > 40);
  const { ErrorCode, Error } = document.components.schemas;
  assert.deepEqual([...ErrorCode.enum].sort(), rows.map((r) => r[1]).sort());
  const types = [...new Set(rows.map((r) => r[2]))];
  assert.deepEqual([...Error.properties.error.properties.type.enum].sort(), types.sort());
});

test('fields of a new video: those of create_fields.c', () => {
  const rows = [...source('api/create_fields.c').matchAll(/^ {4}\{"(\w+)", (\w+), \w+\},$/gm)];
  const { properties, patternProperties } = document.components.schemas.CreateFields;
  const taken = rows.filter((r) => /^(TAKE|NO_OP|NO_OP_OFF|NO_OP_ONE)$/.test(r[2])).map((r) => r[1]);
  const prefixes = taken.filter((name) => name.endsWith('_'));
  const names = taken.filter((name) => !name.endsWith('_'));
  assert.deepEqual(Object.keys(properties).sort(), names.sort());
  for (const prefix of prefixes) {
    const fits = Object.keys(patternProperties).filter((p) => new RegExp(p).test(`${prefix}x`));
    assert.equal(fits.length, 1, prefix);
  }
});

test('references lead somewhere', () => {
  const used = new Set();
  for (const [node, pointer] of nodes(document)) {
    const inMapping = pointer.endsWith('/discriminator/mapping') ? Object.values(node) : [];
    for (const ref of typeof node?.$ref === 'string' ? [node.$ref] : inMapping) {
      assert.match(ref, /^#\//, pointer);
      assert.notEqual(find(ref), undefined, `${pointer}: ${ref}`);
      used.add(ref);
    }
  }
  for (const [group, members] of Object.entries(document.components)) {
    for (const name of Object.keys(members)) {
      const pointer = `#/components/${group}/${name}`;
      assert.ok(used.has(pointer), `${pointer} is not used`);
    }
  }
});

test('parameters of the paths are declared, and operations named once', () => {
  const ids = [];
  for (const [target, item] of Object.entries(document.paths)) {
    const declared = item.parameters.map(resolve).filter((p) => p.in === 'path');
    const wanted = [...target.matchAll(/\{(\w+)\}/g)].map((m) => m[1]);
    assert.deepEqual(declared.map((p) => p.name), wanted, target);
    ids.push(...Object.values(item).flatMap((o) => o.operationId ?? []));
  }
  assert.equal(new Set(ids).size, ids.length);
});

test('schemas are schemas', () => {
  for (const name of Object.keys(document.components.schemas)) {
    asRead(`#/components/schemas/${name}`);
    strictly(`#/components/schemas/${name}`);
  }
});

test('examples are as their schemas say', () => {
  let n = 0;
  for (const [node, pointer] of nodes(document)) {
    if (node === null || typeof node !== 'object' || /\/(examples?|properties)(\/|$)/.test(pointer)) {
      continue;
    }
    if (pointer === '#/components') {
      continue;
    }
    const values = [];
    if ('example' in node) {
      values.push(node.example);
    }
    const list = node.examples ?? [];
    values.push(...(Array.isArray(list) ? list : Object.values(list).map((e) => resolve(e).value)));
    // A media type, parameter or header has a schema; a schema is one.
    const schema = node.schema ? `${pointer}/schema` : pointer;
    for (const value of pointer.startsWith('#/components/examples') ? [] : values) {
      assertValid(strictly(schema), value, `example at ${pointer}`);
      n++;
    }
  }
  assert.ok(n > 40, `${n} examples`);
  for (const name of Object.keys(schemas)) {
    for (const [field, schema] of Object.entries(document.components.schemas[name].properties ?? {})) {
      for (const value of schema.examples ?? []) {
        assertValid(asRead(`#/components/schemas/${name}/properties/${step(field)}`), value, field);
      }
    }
  }
  for (const [, data] of document.components.examples.EventStream.value.matchAll(/^data: (.*)$/gm)) {
    assertValid(strictly('#/components/schemas/Event'), JSON.parse(data), data);
  }
});

test('lines are short enough to be read', () => {
  const long = source('openapi.yaml')
    .split('\n')
    .filter((line) => line.length > 120);
  assert.deepEqual(long, []);
});

// ---- the answers ----

let d;

before(async () => {
  d = await Daemon.start();
});
after(() => d?.stop());
afterEach(() => d.calm());

// Of every HTTP answer, whatever it is about.
const COMMON = ['connection', 'content-length', 'content-type', 'date', 'keep-alive', 'transfer-encoding'];

function assertHeaders(declared, headers, pointer, what) {
  const names = Object.keys(declared).map((name) => name.toLowerCase());
  const unknown = Object.keys(headers).filter((name) => !names.includes(name) && !COMMON.includes(name));
  assert.deepEqual(unknown, ['x-content-type-options'], `${what}: headers that are not described`);
  for (const [name, reference] of Object.entries(declared)) {
    const value = headers[name.toLowerCase()];
    const { schema, required } = resolve(reference);
    const where = reference.$ref ?? `${pointer}/headers/${step(name)}`;
    assert.ok(value !== undefined || !required, `${what}: ${name} is missing`);
    if (value !== undefined) {
      const isNumber = /^(integer|number)$/.test(schema.type);
      assertValid(asRead(`${where}/schema`), isNumber ? Number(value) : value, `${what}: ${name}`);
    }
  }
}

// The answer, after comparing status, headers, type and body with what openapi.yaml says of this operation.
function check(method, target, r, status) {
  const what = `${method} ${target} ${r.status}`;
  assert.equal(r.status, status, `${what}: ${r.text}`);
  const place = `#/paths/${step(target)}/${method.toLowerCase()}/responses/${r.status}`;
  const pointer = find(place)?.$ref ?? place;
  const response = find(pointer);
  assert.ok(response, `${what} is not described`);
  assertHeaders(response.headers, r.headers, pointer, what);
  const type = r.headers['content-type'];
  const types = Object.keys(response.content ?? {});
  assert.ok(type ? types.includes(type.replace(/;.*/, '')) : types.length === 0, `${what}: ${type}`);
  if (r.json !== undefined) {
    assertValid(strictly(`${pointer}/content/${step('application/json')}/schema`), r.json, what);
  }
  return r.json;
}

// Asks, and checks. `values`: of the path's parameters, in their order; the query behind them.
async function ask(method, target, { values = [], query = '', status = 200, ...options } = {}) {
  const rest = [...values];
  const filled = target.replace(/\{\w+\}/g, () => rest.shift());
  return check(method, target, await d.request(method, filled + query, options), status);
}

const CAT = { prompt: 'A calico cat', size: '64x64', num_frames: 33, seed: 42 };

test('a video from its creation to its deletion, with events', async () => {
  await ask('POST', '/v1/queue/pause');
  const everything = await d.events('/v1/events');
  check('GET', '/v1/events', { status: 200, headers: everything.response.headers }, 200);
  const body = { ...CAT, metadata: { shot: 's010' }, tags: ['cats'], group: 'g', quality: 'hd' };
  assertValid(asRead('#/components/schemas/CreateVideo'), body, 'body');
  const headers = { 'idempotency-key': 'openapi' };
  const video = await ask('POST', '/v1/videos', { json: body, headers });
  assert.equal(video.status, 'queued');
  const again = await d.request('POST', '/v1/videos', { json: body, headers });
  assert.equal(check('POST', '/v1/videos', again, 200).id, video.id);
  assert.equal(again.headers['idempotent-replayed'], 'true');
  await ask('POST', '/v1/videos', { json: CAT, headers, status: 422 });

  const values = [video.id];
  await ask('GET', '/v1/videos/{id}/content', { values, status: 404 });
  await ask('POST', '/v1/videos/{id}', { values, json: { priority: 'high', metadata: { shot: null } } });
  const own = await d.events(`/v1/videos/${video.id}/events`);
  check('GET', '/v1/videos/{id}/events', { status: 200, headers: own.response.headers }, 200);
  await ask('POST', '/v1/queue/resume');
  await own.end();

  const done = await ask('GET', '/v1/videos/{id}', { values });
  assert.equal(done.status, 'completed');
  const content = '/v1/videos/{id}/content';
  for (const variant of ['video', 'fragmented', 'thumbnail', 'spritesheet']) {
    await ask('GET', content, { values, query: `?variant=${variant}` });
  }
  await ask('GET', content, { values, query: '?stream=true&download=1' });
  await ask('GET', '/v1/videos/{id}/stream', { values });
  const unchanged = { values, status: 304, headers: { 'if-none-match': '*' } };
  await ask('GET', content, { values, status: 206, headers: { range: 'bytes=0-1' } });
  await ask('GET', content, { values, status: 416, headers: { range: 'bytes=99999999-' } });
  await ask('GET', content, unchanged);
  await ask('GET', '/v1/videos/{id}', unchanged);
  const seen = { 'last-event-id': String(own.list.at(-1).id) };
  await ask('GET', '/v1/videos/{id}/events', { values, status: 204, headers: seen });
  const list = await ask('GET', '/v1/videos', { query: '?metadata[shot]=none' });
  assert.deepEqual(list.data, []);
  assert.equal((await ask('GET', '/v1/videos')).data.length, 1);
  await ask('DELETE', '/v1/videos/{id}', { values });
  await everything.find((e) => e.type === 'video.deleted');
  everything.close();

  const types = new Set();
  for (const { type, seq, data } of [...own.list, ...everything.list]) {
    const name = find(`#/components/schemas/Event/discriminator/mapping/${step(type)}`);
    const whole = { type, seq, created_at: 0, data };
    assertValid(strictly(name), whole, type);
    assertValid(strictly('#/components/schemas/Event'), whole, type);
    types.add(type);
  }
  const known = [...document.components.schemas.EventType.enum, 'video.snapshot'];
  assert.deepEqual([...types].sort(), known.filter((type) => type !== 'video.failed').sort());
});

test('a video that is cancelled while it runs', async () => {
  const form = { prompt: 'x', ...LONG, 'tags[]': 'a', 'metadata[k]': 'v' };
  const video = await ask('POST', '/v1/videos', { form });
  const values = [video.id];
  await d.blocks(video.id, 1);
  assert.equal((await ask('GET', '/v1/videos/{id}', { values })).status, 'in_progress');
  const queue = await ask('GET', '/v1/queue');
  assert.deepEqual(queue.running, [{ id: video.id, gpu: 0 }]);
  const preview = `/v1/videos/${video.id}/content?variant=thumbnail`;
  await until('a preview', async () => (await d.get(preview)).status === 200);
  await ask('GET', '/v1/videos/{id}/content', { values, query: '?variant=thumbnail' });
  const events = await d.events(`/v1/videos/${video.id}/events`);
  const r = await d.cancel(video.id);
  check('POST', '/v1/videos/{id}/cancel', r, r.status === 202 ? 202 : 200);
  await events.end();
  for (const { type, seq, data } of events.list) {
    assertValid(strictly('#/components/schemas/Event'), { type, seq, created_at: 0, data }, type);
  }
  assert.equal(events.types().at(-1), 'video.failed');
  const failed = await ask('GET', '/v1/videos/{id}', { values });
  assert.deepEqual([failed.status, failed.error.code], ['failed', 'cancelled']);
  await ask('GET', '/v1/videos/{id}/content', { values, status: 422 });
  await ask('GET', '/v1/videos/{id}/stream', { values, status: 422 });
  await ask('GET', '/v1/videos/{id}/content', { values, query: '?variant=fragmented&partial=true' });
  const many = await ask('POST', '/v1/videos/cancel', { json: { ids: [video.id, 'video_nope'] } });
  assert.deepEqual(many.data.map((v) => v.status), ['failed', 'not_found']);
});

test('created and watched in one call', async () => {
  const form = { prompt: 'x', size: '64x64', num_frames: '5' };
  assertValid(asRead('#/components/schemas/CreateVideoForm'), form, 'form');
  await ask('POST', '/v1/videos/stream', { form });
  await ask('POST', '/v1/videos', { urlencoded: form, headers: { prefer: 'wait=30' } });
});

test('models, health, version', async () => {
  const { data } = await ask('GET', '/v1/models');
  await ask('GET', '/v1/models/{model}', { values: [data[0].id] });
  for (const target of ['/healthz', '/health', '/live', '/readyz', '/ready', '/version']) {
    await ask('GET', target);
  }
});

test('errors', async () => {
  await ask('POST', '/v1/videos', { json: { prompt: 'x', size: '1281x720' }, status: 400 });
  await ask('POST', '/v1/videos', { json: { ...CAT, sizee: 1 }, status: 400 });
  await ask('POST', '/v1/videos', { json: { ...CAT, model: 'sora-9' }, status: 404 });
  await ask('POST', '/v1/videos', { body: '{"a', headers: { 'content-type': 'application/json' }, status: 400 });
  await ask('POST', '/v1/videos', { body: 'x', headers: { 'content-type': 'text/plain' }, status: 415 });
  await ask('GET', '/v1/videos', { query: '?after=%20', status: 400 });
  await ask('GET', '/v1/videos/{id}', { values: ['video_nope'], status: 404 });
  await ask('GET', '/v1/videos/{id}', { values: ['video_nope'], query: '?wait=99', status: 400 });
  await ask('DELETE', '/v1/videos/{id}', { values: ['video_nope'], status: 404 });
  await ask('POST', '/v1/videos/cancel', { json: {}, status: 400 });
  await ask('GET', '/v1/videos/characters/{id}', { values: ['x'], status: 404 });
  await ask('GET', '/v1/models/{model}', { values: ['sora-9'], status: 404 });
  await ask('GET', '/v1/events', { query: '?types=nothing', status: 400 });
  // Of no operation.
  for (const [r, status, code] of [
    [await d.get('/v1/nothing'), 404, 'unknown_url'],
    [await d.request('DELETE', '/v1/videos'), 405, 'method_not_allowed'],
    [await d.post('/v1/videos/sync', CAT), 400, 'unsupported_operation'],
  ]) {
    assertError(r, status, code);
    assertValid(strictly('#/components/schemas/Error'), r.json, code);
  }
});

test('a full queue', async () => {
  const small = await Daemon.start({ conf: { 'queue.capacity': '1' } });
  try {
    await small.ok('POST', '/v1/queue/pause');
    await small.create();
    const r = await small.request('POST', '/v1/videos', { json: CAT });
    check('POST', '/v1/videos', r, 429);
    assert.ok(r.headers['retry-after-ms']);
  } finally {
    await small.stop();
  }
});

test('bodies that the daemon refuses, openapi.yaml refuses too', async () => {
  for (const fields of [
    { prompt: undefined },
    { seconds: '-1' },
    { seconds: '1.2345' },
    { size: '64' },
    { width: 64, size: undefined },
    { fps: 61 },
    { motion_score: 101 },
    { seed: -2 },
    { guidance_scale: 21 },
    { priority: 'urgent' },
    { tags: ['a b'] },
    { metadata: { k: 1 } },
    { input_reference: { file_id: 'file-1' } },
    { n: 2 },
    { enable_upscaling: true },
    { lora: 'x' },
    { webhook_url: 'https://example.com' },
    { sizee: '64x64' },
  ]) {
    const body = JSON.parse(JSON.stringify({ ...CAT, ...fields }));
    const validate = asRead('#/components/schemas/CreateVideo');
    assert.equal(validate(body), false, JSON.stringify(fields));
    await ask('POST', '/v1/videos', { json: body, status: 400 });
  }
});

test('bodies that openapi.yaml takes, the daemon takes too', async () => {
  await ask('POST', '/v1/queue/pause');
  try {
    for (const fields of [
      { num_frames: undefined, seconds: 0.5 },
      { num_frames: undefined, frames: '5', fps: '12.5' },
      { size: undefined, width: '64', height: 64 },
      { size: undefined, aspect_ratio: '1:1', short_edge: 64 },
      { seed: 'random', motion_score: '50', flow_shift: 3, guidance_scale: '2.5', priority: 'low' },
      { tags: '["a"]', metadata: '{"k":"v"}', user: 'ann', cancel_after_s: 600 },
      { extra_body: { seed: 7 }, extra_params: '{"preencode_mp4":true}', n: 1 },
      { enable_upscaling: false, upscaling_factor: 2, output_quality: 90, generate_sound: false },
    ]) {
      const body = JSON.parse(JSON.stringify({ ...CAT, ...fields }));
      assertValid(asRead('#/components/schemas/CreateVideo'), body, 'body');
      await ask('POST', '/v1/videos', { json: body });
    }
  } finally {
    await d.calm();
  }
});
