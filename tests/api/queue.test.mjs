// Whose turn it is: priorities, fairness, pausing, and that waiting or being overtaken changes no video.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Daemon, LONG, assertError, until } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start({ conf: { 'queue.per_client': '100' } });
});
after(() => d?.stop());
afterEach(() => d.calm());

const queue = () => d.ok('GET', '/v1/queue');

async function idle() {
  await until('an idle queue', async () => {
    const q = await queue();
    return q.queued === 0 && q.running.length === 0;
  });
}

// Places are told at most once a second.
async function places(ids, expected) {
  let found;
  await until('places', async () => {
    found = (await Promise.all(ids.map((id) => d.video(id)))).map((v) => v.queue_position);
    return String(found) === String(expected);
  }, 3000).catch(() => assert.deepEqual(found, expected));
}

test('what the queue says', async () => {
  assert.deepEqual(await queue(), {
    object: 'queue',
    paused: false,
    queued: 0,
    running: [],
    capacity: 256,
    eta_s: (await queue()).eta_s,
  });
  const { id } = await d.create(LONG);
  await d.running(id);
  const next = await d.create();
  const q = await queue();
  assert.deepEqual(q.running, [{ id, gpu: 0 }]);
  assert.equal(q.queued, 1);
  await places([next.id], [1]);
  await d.cancel(id);
  await idle();
});

test('paused: what runs goes on, what waits waits', async () => {
  const first = await d.create({ num_frames: 160 });
  await d.running(first.id);
  assert.equal((await d.ok('POST', '/v1/queue/pause')).paused, true);
  const second = await d.create();
  assert.equal((await queue()).paused, true);
  assert.equal((await d.over(first.id)).status, 'completed');
  assert.equal((await d.ok('GET', `/v1/videos/${second.id}?wait=1`)).status, 'queued');
  const third = await d.create({ priority: 100 });
  await places([third.id, second.id], [1, 2]);
  assert.equal((await d.ok('POST', '/v1/queue/resume')).paused, false);
  assert.equal((await d.over(second.id)).status, 'completed');
  assert.ok((await d.video(third.id)).started_at <= (await d.video(second.id)).started_at);
});

test('round-robin over clients, by priority, by age', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const starts = await d.events('/v1/events?types=video.in_progress');
  const names = new Map();
  const make = async (name, fields, key) => {
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    names.set((await d.create({ num_frames: 1, ...fields }, headers)).id, name);
  };
  for (const i of [1, 2, 3]) {
    await make(`a${i}`, {}, 'round-a');
  }
  for (const i of [1, 2]) {
    await make(`b${i}`, {}, 'round-b');
  }
  await make('c1', {}, 'round-c');
  await make('low', { priority: 'low' }, 'round-d');
  await make('high', { priority: 'high' }, 'round-a');
  await make('higher', { priority: 51 }, 'round-b');
  // Served last are b and a, by the urgent ones; so c is before them.
  const expected = ['higher', 'high', 'c1', 'b1', 'a1', 'b2', 'a2', 'a3', 'low'];
  await d.ok('POST', '/v1/queue/resume');
  await until('all starts', () => starts.list.length === expected.length);
  assert.deepEqual(starts.list.map((e) => names.get(e.data.id)), expected);
  starts.close();
  await idle();
});

test('places in the queue are the order of the starts', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const ids = [];
  for (const key of ['x', 'x', 'x', 'y', 'y', 'z']) {
    ids.push((await d.create({ num_frames: 1 }, { authorization: `Bearer place-${key}` })).id);
  }
  await places(ids, [1, 4, 6, 2, 5, 3]);
  await d.ok('POST', '/v1/queue/resume');
  await idle();
});

// An urgent job overtakes a running one, whose video stays what it would have been.
async function overtaken(daemon, fields, ready) {
  const alone = await daemon.completed(fields);
  const etag = await daemon.etag(alone.id);
  const fragmented = (await daemon.get(`/v1/videos/${alone.id}/content?variant=fragmented`)).raw;

  const slow = await daemon.create(fields);
  const stream = await daemon.open('GET', `/v1/videos/${slow.id}/stream`);
  const viewed = stream.toArray();
  await ready(slow.id);
  const urgent = await daemon.create({ priority: 'high', num_frames: 5, seed: 2 });
  const first = await daemon.over(urgent.id);
  assert.equal(first.status, 'completed');
  const meanwhile = await daemon.video(slow.id);
  assert.ok(['queued', 'in_progress'].includes(meanwhile.status), 'it was not overtaken');
  const last = await daemon.over(slow.id);
  assert.equal(last.status, 'completed');
  assert.equal(last.restarts ?? 0, 0);
  assert.equal(await daemon.etag(slow.id), etag);
  assert.ok((await daemon.get(`/v1/videos/${slow.id}/content?variant=fragmented`)).raw.equals(fragmented));
  assert.ok(Buffer.concat(await viewed).equals(fragmented));
}

test('an urgent job overtakes at a block', async () => {
  await overtaken(d, { num_frames: 160, size: '96x96', seed: 21 }, (id) => d.blocks(id, 2));
});

test('an urgent job overtakes between steps, where all blocks are one', async () => {
  const other = await Daemon.start({ model: 'tiny-480p' });
  try {
    const fields = { num_frames: 33, size: '128x128', seed: 21, num_inference_steps: 50 };
    await overtaken(other, fields, (id) =>
      until('some steps', async () => {
        const v = await other.video(id);
        assert.notEqual(v.status, 'completed');
        return v.status === 'in_progress' && v.progress >= 5;
      }),
    );
  } finally {
    await other.stop();
  }
});

test('a full queue, a full share', async () => {
  d.reconfigure({ 'queue.capacity': '3', 'queue.per_client': '2' });
  await until('the new capacity', async () => (await queue()).capacity === 3);
  await d.ok('POST', '/v1/queue/pause');
  const make = (key) =>
    d.post(
      '/v1/videos',
      { prompt: 'x', size: '64x64', num_frames: 1 },
      { headers: { authorization: `Bearer full-${key}` } },
    );
  const refused = async (key, code) => {
    const r = await make(key);
    assertError(r, 429, code);
    const wait = Number(r.headers['retry-after']);
    assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 60, r.headers['retry-after']);
    assert.ok(Number(r.headers['retry-after-ms']) > 0);
    assert.notEqual(r.headers['x-should-retry'], 'false');
  };
  const ids = [];
  for (const key of ['a', 'a']) {
    ids.push((await make(key)).json.id);
  }
  await refused('a', 'too_many_jobs_for_key');
  ids.push((await make('b')).json.id);
  await refused('b', 'queue_full');
  await refused('c', 'queue_full');
  await d.cancel(ids[0]);
  assert.equal((await make('c')).status, 200);
  await d.ok('POST', '/v1/queue/resume');
  await idle();
  assert.equal((await make('a')).status, 200);
  await idle();
});

test('wrong methods', async () => {
  for (const [method, target, allow] of [
    ['POST', '/v1/queue', /GET/],
    ['GET', '/v1/queue/pause', /POST/],
    ['DELETE', '/v1/queue/resume', /POST/],
  ]) {
    const r = await d.request(method, target);
    assertError(r, 405, 'method_not_allowed');
    assert.match(r.headers.allow, allow);
  }
});
