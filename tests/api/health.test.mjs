// What load balancers, monitors and clients ask first.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon, assertError, until } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start();
});
after(() => d?.stop());

test('health', async () => {
  for (const path of ['/healthz', '/health', '/live']) {
    const r = await d.get(path);
    assert.equal(r.status, 200, path);
    assert.deepEqual(r.json, { status: 'ok' });
    assert.equal((await d.request('HEAD', path)).status, 200);
  }
});

test('ready', async () => {
  for (const path of ['/readyz', '/ready']) {
    const r = await d.get(path);
    assert.equal(r.status, 200, path);
    assert.equal(typeof r.json.status, 'string');
  }
});

test('not ready while the model is loaded', async () => {
  const other = await Daemon.start({ ready: false });
  try {
    const first = await other.get('/readyz');
    if (first.status !== 200) {
      assert.equal(first.status, 503);
      assert.deepEqual(first.json, { status: 'loading' });
      assert.equal((await other.get('/healthz')).status, 200);
    }
    await until('ready', async () => (await other.get('/readyz')).status === 200);
  } finally {
    await other.stop();
  }
});

test('version', async () => {
  const { version } = await d.ok('GET', '/version');
  assert.match(version, /^\d+\.\d+\.\d+/);
});

test('models', async () => {
  const list = await d.ok('GET', '/v1/models');
  assert.equal(list.object, 'list');
  assert.equal(list.data.length, 1);
  const [model] = list.data;
  const { created, video_capabilities: can, ...rest } = model;
  assert.ok(Math.abs(created - Date.now() / 1000) < 600);
  const { id, object, owned_by, aliases } = rest;
  assert.deepEqual({ id, object, owned_by }, { id: 'tiny-long', object: 'model', owned_by: 'sanad' });
  for (const alias of ['tiny', 'sora-2', 'sora-2-pro']) {
    assert.ok(aliases.includes(alias), `${aliases}`);
    assert.equal((await d.ok('GET', `/v1/models/${alias}`)).id, 'tiny-long');
  }
  assert.ok(can.tasks.includes('t2v'));
  assert.equal(can.fps_default, 16);
  assert.deepEqual(can.frame_grid, { multiple: 4, offset: 1 });
  assert.equal(can.seconds_default, '4');
  assert.equal(can.max_seconds, 60);
  assert.equal(can.max_frames, 961);
  assert.equal(can.block_frames, 12);
  assert.equal(can.streaming, true);
  assert.equal(can.steps.default, 4);
  assert.deepEqual(can.guidance_scale, { default: 1, min: 0, max: 20 });
  assert.deepEqual([...can.input_reference].sort(), ['image/jpeg', 'image/png', 'image/webp']);
  assert.equal(can.max_upload_bytes, 20971520);
  assert.ok(can.container.includes('mp4') && can.container.includes('cmaf'));
  assert.match(can.codec, /^avc1(\.[0-9a-f]{6})?$/);
  assert.equal(can.audio, false);
  assert.deepEqual(await d.ok('GET', '/v1/models/tiny-long'), model);
  assertError(await d.get('/v1/models/sora-9'), 404, 'model_not_found', 'model');
});
