// A job from its creation to its end: looking at it, waiting for it, changing, cancelling and deleting it.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Daemon, LONG, assertError, until, within } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start({ conf: { 'queue.per_client': '256' } });
});
after(() => d?.stop());
afterEach(() => d.calm());

const pause = () => d.ok('POST', '/v1/queue/pause');
const resume = () => d.ok('POST', '/v1/queue/resume');
const running = async () => (await d.ok('GET', '/v1/queue')).running;

test('progress is a whole number that never falls; 0 in the queue, 100 only at the end', async () => {
  await pause();
  const { id } = await d.create({ num_frames: 160 });
  for (let i = 0; i < 5; i++) {
    assert.equal((await d.video(id)).progress, 0);
  }
  await resume();
  let last = { progress: 0, status: 'queued' };
  const order = ['queued', 'in_progress', 'completed'];
  const values = new Set();
  while (last.status !== 'completed') {
    const v = await d.video(id);
    assert.ok(Number.isInteger(v.progress), `${v.progress}`);
    assert.ok(v.progress >= last.progress, `${v.progress} after ${last.progress}`);
    assert.ok(order.indexOf(v.status) >= order.indexOf(last.status), `${v.status} after ${last.status}`);
    assert.ok(v.blocks.done >= (last.blocks?.done ?? 0));
    assert.equal(v.status === 'completed', v.progress === 100);
    if (v.status === 'queued') {
      assert.equal(v.progress, 0);
    }
    values.add(v.progress);
    last = v;
  }
  assert.ok(values.size > 8, `only ${[...values]}`);
  assert.deepEqual(last.blocks, { done: 13, total: 13, frames_ready: 160 });
  assert.equal(last.phase, 'done');
  assert.ok(last.started_at >= last.created_at && last.completed_at >= last.started_at);
  assert.ok(last.inference_time_s > 0);
  assert.ok(Object.values(last.stage_durations).every((s) => typeof s === 'number' && s >= 0));
  assert.ok('denoise' in last.stage_durations);
  assert.equal(last.queue_position, null);
  assert.equal(last.eta_s, null);
});

test('retrieve: ETag, 304, when to ask again', async () => {
  await pause();
  const { id } = await d.create();
  const target = `/v1/videos/${id}`;
  const queued = await d.get(target);
  assert.equal(queued.status, 200);
  const poll = Number(queued.headers['openai-poll-after-ms']);
  assert.ok(Number.isInteger(poll) && poll >= 250 && poll <= 2000, `${poll}`);
  assert.equal((await d.get(target, { headers: { 'if-none-match': '"x"' } })).status, 200);
  await resume();
  await d.over(id);
  const done = await d.get(target);
  assert.notEqual(done.headers.etag, queued.headers.etag);
  assert.equal(done.headers['openai-poll-after-ms'], undefined);
  assert.equal(done.headers['cache-control'], 'no-store');
  const same = await d.get(target, { headers: { 'if-none-match': done.headers.etag } });
  assert.equal(same.status, 304);
  assert.equal(same.raw.length, 0);
  assert.equal(same.headers.etag, done.headers.etag);
  const head = await d.request('HEAD', target);
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], String(done.raw.length));
  assert.equal(head.headers.etag, done.headers.etag);
});

test('waiting for a change', async () => {
  await pause();
  const { id } = await d.create({ num_frames: 33 });
  const target = `/v1/videos/${id}`;
  assert.equal((await d.ok('GET', `${target}?wait=0`)).status, 'queued');
  const began = Date.now();
  assert.equal((await d.ok('GET', `${target}?wait=1`)).status, 'queued');
  assert.ok(Date.now() - began >= 900);

  const waits = [`${target}?wait=60`, `${target}?wait=60`].map((t) => d.ok('GET', t));
  waits.push(d.ok('GET', target, { headers: { prefer: 'wait=60' } }));
  await resume();
  for (const v of await within('a change', Promise.all(waits), 20000)) {
    assert.equal(v.status, 'in_progress');
  }
  const done = await until('the end', async () => {
    const v = await d.ok('GET', `${target}?wait=60`);
    return v.status === 'completed' && v;
  });
  assert.equal(done.progress, 100);
  const again = Date.now();
  await d.ok('GET', `${target}?wait=60`);
  assert.ok(Date.now() - again < 10000);
  for (const bad of ['61', '-1', 'x', '1e1']) {
    assertError(await d.get(`${target}?wait=${bad}`), 400, 'invalid_value', 'wait');
  }
});

test('a wait ends with a cancel, and with a deletion', async () => {
  await pause();
  const a = await d.create();
  const b = await d.create();
  const waitA = d.get(`/v1/videos/${a.id}?wait=60`);
  const waitB = d.get(`/v1/videos/${b.id}?wait=60`);
  await d.cancel(a.id);
  assert.equal((await within('a', waitA, 10000)).json.error.code, 'cancelled');
  await d.ok('DELETE', `/v1/videos/${b.id}`);
  assertError(await within('b', waitB, 10000), 404, 'video_not_found');
  await resume();
});

test('list: order, pages, filters', async () => {
  const mine = (await d.completed({ user: 'list', tags: ['a', 'b'], metadata: { shot: '1', x: 'y' } })).id;
  await pause();
  const ids = [mine];
  for (const fields of [
    { tags: ['a'], metadata: { shot: '1' } },
    { tags: ['b'], group: 'g1' },
    { group: 'g1', metadata: { 'a.b': 'c d' } },
    {},
  ]) {
    ids.push((await d.create({ user: 'list', ...fields })).id);
  }
  await d.cancel(ids[4]);
  const list = async (query) => {
    const r = await d.ok('GET', `/v1/videos?user=list&${query}`);
    assert.equal(r.object, 'list');
    assert.deepEqual(Object.keys(r).sort(), ['data', 'first_id', 'has_more', 'last_id', 'object']);
    assert.equal(r.first_id, r.data[0]?.id ?? null);
    assert.equal(r.last_id, r.data.at(-1)?.id ?? null);
    return { at: r.data.map((v) => ids.indexOf(v.id)), more: r.has_more, data: r.data };
  };
  for (const [query, expected, more] of [
    ['', [4, 3, 2, 1, 0], false],
    ['order=desc', [4, 3, 2, 1, 0], false],
    ['order=asc', [0, 1, 2, 3, 4], false],
    ['limit=5', [4, 3, 2, 1, 0], false],
    ['limit=4', [4, 3, 2, 1], true],
    ['limit=0', [], true],
    [`limit=2&after=${ids[3]}`, [2, 1], true],
    [`limit=2&after=${ids[2]}`, [1, 0], false],
    [`after=${ids[0]}`, [], false],
    [`order=asc&after=${ids[2]}`, [3, 4], false],
    ['status=completed', [0], false],
    ['status=queued', [3, 2, 1], false],
    ['status=failed', [4], false],
    ['status=in_progress', [], false],
    ['model=tiny-long', [4, 3, 2, 1, 0], false],
    ['model=sora-9', [], false],
    ['tag=a', [1, 0], false],
    ['tag=b', [2, 0], false],
    ['tag=a&tag=b', [0], false],
    ['group=g1', [3, 2], false],
    ['group=g1&tag=b', [2], false],
    ['metadata[shot]=1', [1, 0], false],
    ['metadata%5Bshot%5D=1&metadata%5Bx%5D=y', [0], false],
    ['metadata[a.b]=c%20d', [3], false],
    ['metadata[shot]=2', [], false],
    ['created_before=1000000000', [], false],
    ['created_after=1000000000', [4, 3, 2, 1, 0], false],
    ['created_after=9999999999', [], false],
  ]) {
    const { at, more: has } = await list(query);
    assert.deepEqual(at, expected, query);
    assert.equal(has, more, query);
  }
  assert.deepEqual((await list('limit=1&order=asc')).data[0], await d.video(ids[0]));
  assert.deepEqual((await d.ok('GET', '/v1/videos?user=nobody')).data, []);

  // A position stays one when its video is gone.
  await d.ok('DELETE', `/v1/videos/${ids[2]}`);
  assert.deepEqual((await list(`after=${ids[2]}`)).at, [1, 0]);

  for (const [query, code, param] of [
    ['limit=101', 'invalid_value', 'limit'],
    ['limit=-1', 'invalid_value', 'limit'],
    ['limit=x', 'invalid_value', 'limit'],
    ['order=up', 'invalid_value', 'order'],
    ['status=done', 'invalid_value', 'status'],
    ['after=..%2F', 'invalid_cursor', 'after'],
    ['after=a%20b', 'invalid_cursor', 'after'],
    ['created_after=x', 'invalid_value', 'created_after'],
  ]) {
    assertError(await d.get(`/v1/videos?${query}`), 400, code, param);
  }
  await resume();
});

test('twenty are listed unless more are asked for', async () => {
  await pause();
  for (let i = 0; i < 21; i++) {
    await d.create({ group: 'many' });
  }
  const r = await d.ok('GET', '/v1/videos?group=many');
  assert.equal(r.data.length, 20);
  assert.equal(r.has_more, true);
  assert.equal((await d.ok('GET', '/v1/videos?group=many&limit=100')).data.length, 21);
  const cancelled = await d.ok('POST', '/v1/videos/cancel', { json: { group: 'many' } });
  assert.equal(cancelled.object, 'list');
  assert.equal(cancelled.data.length, 21);
  assert.ok(cancelled.data.every((v) => v.status === 'failed'));
  await resume();
});

test('changes of the metadata at the same moment are all kept', async () => {
  const { id } = await d.completed({});
  const keys = Array.from({ length: 8 }, (_, i) => `k${i}`);
  await Promise.all(keys.map((k) => d.ok('POST', `/v1/videos/${id}`, { json: { metadata: { [k]: k } } })));
  assert.deepEqual(Object.keys((await d.video(id)).metadata).sort(), keys);
});

test('update: tags, metadata, priority', async () => {
  await pause();
  const { id } = await d.create({ tags: ['a'], metadata: { x: '1', y: '2' } });
  await d.prepared(id);
  const target = `/v1/videos/${id}`;
  const changed = await d.ok('POST', target, {
    json: { tags: ['b', 'c'], metadata: { x: '3', y: null, z: '4' }, priority: 7 },
  });
  assert.deepEqual(changed.tags, ['b', 'c']);
  assert.deepEqual(changed.metadata, { x: '3', z: '4' });
  assert.equal(changed.priority, 7);
  assert.deepEqual(await d.video(id), changed);
  assert.deepEqual(await d.ok('POST', target, { json: {} }), changed);
  for (const [json, code, param] of [
    [{ tags: ['a b'] }, 'invalid_value', /^tags/],
    [{ metadata: 'x' }, 'invalid_type', /^metadata/],
    [{ priority: 101 }, 'invalid_value', /^priority/],
    [{ prompt: 'x' }, 'unknown_parameter', /^prompt/],
    [{ metadata: Object.fromEntries([...Array(16).keys()].map((k) => [k, 'x'])) }, 'invalid_value', /^metadata/],
  ]) {
    const r = await d.post(target, json);
    assertError(r, 400, code, r.json.error.param);
    assert.match(r.json.error.param, param);
  }
  assert.deepEqual(await d.video(id), changed);
  await resume();
  await d.over(id);
  assert.deepEqual((await d.ok('POST', target, { json: { tags: [] } })).tags, []);
  const late = await d.post(target, { priority: 1 });
  assert.equal(late.status, 400, late.text);
  assert.equal(late.json.error.param, 'priority');
  assertError(await d.post('/v1/videos/video_0', { tags: [] }), 404, 'video_not_found');
});

test('cancel in the queue', async () => {
  await pause();
  const { id } = await d.create();
  await d.prepared(id);
  const r = await d.cancel(id);
  assert.equal(r.status, 200);
  assert.equal(r.json.status, 'failed');
  assert.equal(r.json.error.code, 'cancelled');
  assert.equal(r.json.completed_at, null);
  assert.equal(r.json.started_at, null);
  assert.equal(r.json.queue_position, null);
  assert.deepEqual(await d.video(id), r.json);
  const again = await d.cancel(id);
  assert.equal(again.status, 200);
  assert.deepEqual(again.json, r.json);
  await resume();
  assert.deepEqual(await d.video(id), r.json);
  assertError(await d.cancel('video_0'), 404, 'video_not_found');
});

test('cancel while it runs frees the device', async () => {
  for (const blocks of [0, 2]) {
    const { id } = await d.create(LONG);
    await d.running(id);
    await d.blocks(id, blocks);
    const next = await d.create();
    const began = Date.now();
    const r = await d.cancel(id);
    assert.equal(r.status, 200, r.text);
    assert.equal(r.json.status, 'failed');
    assert.equal(r.json.error.code, 'cancelled');
    assert.equal(r.json.cancel_requested, true);
    await until('the next one', async () => (await d.video(next.id)).status !== 'queued', 2000);
    assert.ok(Date.now() - began < 2000, `${Date.now() - began} ms`);
    assert.equal((await d.over(next.id)).status, 'completed');
    assert.deepEqual(await d.video(id), r.json);
  }
});

test('cancel of what is over changes nothing', async () => {
  const v = await d.completed();
  const r = await d.cancel(v.id);
  assert.equal(r.status, 200);
  assert.deepEqual(r.json, v);
});

test('cancel many', async () => {
  await pause();
  const a = await d.create();
  const b = await d.create();
  const c = await d.create();
  const r = await d.ok('POST', '/v1/videos/cancel', { json: { ids: [a.id, c.id] } });
  assert.deepEqual(r, {
    object: 'list',
    data: [
      { id: a.id, status: 'failed' },
      { id: c.id, status: 'failed' },
    ],
  });
  assert.equal((await d.video(b.id)).status, 'queued');
  await resume();
  assert.equal((await d.over(b.id)).status, 'completed');
  for (const json of [{}, { ids: 'x' }, { ids: [7] }, { ids: [a.id], group: 'g' }]) {
    const bad = await d.post('/v1/videos/cancel', json);
    assert.equal(bad.status, 400, JSON.stringify(json));
  }
});

test('cancel against completion: one of them wins, for good', async () => {
  const ends = [];
  for (let i = 0; i < 100; i++) {
    const { id } = await d.create({ num_frames: 1 });
    await delay(i);
    const r = await d.cancel(id);
    assert.ok([200, 202].includes(r.status), r.text);
    ends.push({ id, answer: r });
  }
  let completed = 0;
  for (const { id, answer } of ends) {
    const v = await d.over(id);
    if (answer.status === 200) {
      assert.deepEqual(v, answer.json);
    }
    const content = await d.request('GET', `/v1/videos/${id}/content`);
    if (v.status === 'completed') {
      completed++;
      assert.equal(v.error, null);
      assert.equal(content.status, 200);
      assert.equal(content.raw.length, v.size_bytes);
    } else {
      assert.equal(v.error.code, 'cancelled');
      assert.notEqual(v.progress, 100);
      assert.equal(content.status, 422);
    }
  }
  assert.ok(completed < 100, 'no cancel was in time');
  assert.deepEqual(await running(), []);
});

test('delete', async () => {
  await pause();
  const queued = await d.create();
  const finished = await (async () => {
    await resume();
    return d.completed();
  })();
  await d.over(queued.id);
  const long = await d.create(LONG);
  await d.blocks(long.id, 1);
  for (const { id } of [queued, finished, long]) {
    const target = `/v1/videos/${id}`;
    const r = await d.delete(target);
    assert.equal(r.status, 200);
    assert.deepEqual(r.json, { id, object: 'video.deleted', deleted: true });
    assertError(await d.delete(target), 404, 'video_not_found');
    assertError(await d.get(target), 404, 'video_not_found');
    assertError(await d.post(target, { tags: [] }), 404, 'video_not_found');
    assertError(await d.cancel(id), 404, 'video_not_found');
    assertError(await d.get(`${target}/content`), 404, 'video_not_found');
  }
  await until('a free device', async () => (await running()).length === 0, 2000);
  await d.terminate();
  await d.launch();
  const { data } = await d.ok('GET', '/v1/videos?limit=100');
  for (const { id } of [queued, finished, long]) {
    assertError(await d.get(`/v1/videos/${id}`), 404, 'video_not_found');
    assert.ok(!data.some((v) => v.id === id));
  }
});
