// A video while it is being made: what viewers get, when, and how it ends.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Daemon, ID, LONG, assertError, boxes, probe, run, until, within, withoutFree } from './harness.mjs';

let d;
let idle; // another one, in which nothing happens: for the signs of life
let alive; // what its readers got

before(async () => {
  [d, idle] = await Promise.all([Daemon.start(), Daemon.start()]);
  await idle.ok('POST', '/v1/queue/pause');
  const { id } = await idle.create();
  alive = {
    stream: await Viewer.open(idle, `/v1/videos/${id}/stream`),
    events: await idle.events(`/v1/videos/${id}/events`),
    since: Date.now(),
  };
});
after(() => Promise.all([d?.stop(), idle?.stop()]));
afterEach(() => d.calm());

// Reads a stream as it comes; headers, and the boxes that are there.
class Viewer {
  static async open(daemon, target, options = {}, method = 'GET') {
    return new Viewer(await daemon.open(method, target, options));
  }

  constructor(response) {
    this.response = response;
    this.status = response.statusCode;
    this.headers = response.headers;
    this.bytes = Buffer.alloc(0);
    this.whole = undefined; // at the end: came the last chunk?
    response.on('data', (chunk) => (this.bytes = Buffer.concat([this.bytes, chunk])));
    response.on('end', () => (this.whole = response.complete));
    response.on('error', () => (this.whole = false));
    response.on('close', () => (this.whole ??= false));
  }

  types() {
    const list = [];
    for (let at = 0; at + 8 <= this.bytes.length; at += this.bytes.readUInt32BE(at)) {
      if (at + this.bytes.readUInt32BE(at) <= this.bytes.length) {
        list.push(this.bytes.toString('latin1', at + 4, at + 8));
      }
    }
    return list;
  }

  // Until so many boxes of this type are there.
  box(type, n = 1) {
    return until(`${n} ${type}`, () => {
      assert.ok(this.whole === undefined || this.types().filter((t) => t === type).length >= n, 'ended');
      return this.types().filter((t) => t === type).length >= n;
    });
  }

  async end(ms = 60000) {
    await until('the end of the stream', () => this.whole !== undefined, ms);
    return this;
  }

  // What a player needs: without signs of life.
  media() {
    return withoutFree(this.bytes);
  }
}

async function fragmented(id) {
  const r = await d.get(`/v1/videos/${id}/content?variant=fragmented`);
  assert.equal(r.status, 200, r.text);
  return r.raw;
}

// Init segment, and a list of fragments.
function parts(bytes) {
  const list = boxes(bytes).filter((b) => !['free', 'styp', 'mfra'].includes(b.type));
  assert.deepEqual(list.slice(0, 2).map((b) => b.type), ['ftyp', 'moov']);
  const fragments = [];
  for (let i = 2; i < list.length; i += 2) {
    assert.deepEqual(list.slice(i, i + 2).map((b) => b.type), ['moof', 'mdat']);
    fragments.push(bytes.subarray(list[i].start, list[i + 1].end));
  }
  return { init: bytes.subarray(0, list[1].end), fragments };
}

test('the beginning comes while the job is queued; all viewers get the same', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const { id } = await d.create({ num_frames: 160, size: '96x96' });
  const targets = [`/v1/videos/${id}/stream`, `/v1/videos/${id}/content?stream=true`];
  const early = await Promise.all([...targets, ...targets].map((t) => Viewer.open(d, t)));
  for (const v of early) {
    assert.equal(v.status, 200);
    assert.equal(v.headers['content-type'], 'video/mp4');
    assert.equal(v.headers['transfer-encoding'], 'chunked');
    assert.equal(v.headers['content-length'], undefined);
    assert.equal(v.headers['cache-control'], 'no-store');
    assert.equal(v.headers['x-accel-buffering'], 'no');
    assert.equal(v.headers['x-video-id'], id);
    await v.box('moov');
    assert.deepEqual(v.types(), ['ftyp', 'moov']);
  }
  assert.equal((await d.video(id)).status, 'queued');
  await d.ok('POST', '/v1/queue/resume');

  // Fragments come one by one, not at the end.
  await early[0].box('moof');
  assert.equal((await d.video(id)).status, 'in_progress');
  await d.blocks(id, 3);
  const late = await Viewer.open(d, targets[0], { headers: { range: 'bytes=5-' } });
  assert.equal(late.status, 200);
  await late.box('moof', 3);

  const viewers = await Promise.all([...early, late].map((v) => v.end()));
  const whole = await fragmented(id);
  for (const v of viewers) {
    assert.equal(v.whole, true);
    assert.ok(v.media().equals(withoutFree(whole)));
  }
  const found = await probe(viewers[0].bytes);
  assert.deepEqual([found.width, found.frames, found.duration, found.errors], [96, 160, 10, '']);
  assert.equal(parts(whole).fragments.length, 13);
});

test('each fragment plays by itself, from_segment leaves out those before', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const { id } = await d.create({ num_frames: 64 });
  const target = `/v1/videos/${id}/stream?from_segment=`;
  const live = await Viewer.open(d, `${target}3`);
  await d.ok('POST', '/v1/queue/resume');
  await live.end();
  const { init, fragments } = parts(await fragmented(id));
  assert.equal(fragments.length, 5);
  assert.ok(parts(live.bytes).init.equals(init));
  assert.ok(Buffer.concat(parts(live.bytes).fragments).equals(Buffer.concat(fragments.slice(3))));
  const frames = [17, 12, 12, 12, 11];
  for (let k = 0; k <= 5; k++) {
    const v = await (await Viewer.open(d, target + k)).end();
    assert.ok(Buffer.concat(parts(v.bytes).fragments).equals(Buffer.concat(fragments.slice(k))), `${k}`);
    if (k < 5) {
      const found = await probe(Buffer.concat([init, fragments[k]]));
      assert.deepEqual([found.frames, found.errors], [frames[k], ''], `fragment ${k}`);
    }
  }
});

test('a from_segment that is no number', async () => {
  const { id } = await d.completed();
  for (const bad of ['-1', 'x', '1.5', '99999999999999999999']) {
    const r = await d.get(`/v1/videos/${id}/stream?from_segment=${bad}`);
    assert.equal(r.status, 400, bad);
    assertError(r, 400, 'invalid_value', 'from_segment');
  }
});

test('a cancelled job cuts the stream, and what came plays', async () => {
  const { id } = await d.create(LONG);
  const target = `/v1/videos/${id}/stream`;
  const viewer = await Viewer.open(d, target);
  const curl = run('curl', ['-sS', '-N', '-o', '/dev/null', `${d.url}${target}`]);
  const fetched = (await fetch(d.url + target)).arrayBuffer().then(
    () => 'whole',
    (e) => `${e.name}: ${e.message}`,
  );
  await viewer.box('moof', 2);
  await d.cancel(id);
  await viewer.end(5000);
  assert.equal(viewer.whole, false);
  assert.equal((await within('curl', curl, 5000)).status, 18);
  assert.equal(await within('fetch', fetched, 5000), 'TypeError: terminated');
  const v = await d.video(id);
  const { fragments } = parts(viewer.media());
  assert.equal(fragments.length, v.blocks.done);
  const { frames, errors } = await probe(viewer.bytes);
  assert.deepEqual([frames, errors], [v.blocks.frames_ready, '']);
  assertError(await d.get(target), 422, 'video_generation_failed');
});

test('a job that is cancelled in the queue, and one that is deleted', async () => {
  await d.ok('POST', '/v1/queue/pause');
  for (const end of ['cancel', 'delete']) {
    const { id } = await d.create();
    const viewer = await Viewer.open(d, `/v1/videos/${id}/stream`);
    await viewer.box('moov');
    if (end === 'cancel') {
      await d.cancel(id);
    } else {
      await d.ok('DELETE', `/v1/videos/${id}`);
    }
    await viewer.end(5000);
    assert.equal(viewer.whole, false, end);
  }
  await d.ok('POST', '/v1/queue/resume');
});

test('a viewer who leaves disturbs nobody', async () => {
  const { id } = await d.create({ num_frames: 160 });
  const stays = await Viewer.open(d, `/v1/videos/${id}/stream`);
  for (let i = 0; i < 5; i++) {
    const leaves = await Viewer.open(d, `/v1/videos/${id}/stream`);
    await leaves.box('moov');
    leaves.response.destroy();
  }
  await stays.end();
  assert.equal(stays.whole, true);
  assert.equal(parts(stays.bytes).fragments.length, 13);
});

test('create and stream in one call', async () => {
  const body = JSON.stringify({ prompt: 'A cat', size: '64x64', num_frames: 33, seed: 4 });
  const headers = { 'content-type': 'application/json' };
  const v = await Viewer.open(d, '/v1/videos/stream', { body, headers }, 'POST');
  assert.equal(v.status, 200);
  assert.equal(v.headers['content-type'], 'video/mp4');
  const id = v.headers['x-video-id'];
  assert.match(id, ID);
  assert.equal(v.headers.location, `/v1/videos/${id}`);
  await v.end();
  assert.equal(v.whole, true);
  assert.ok(v.media().equals(withoutFree(await fragmented(id))));
  assert.equal((await probe(v.bytes)).frames, 33);

  const form = await d.request('POST', '/v1/videos/stream', { form: { prompt: 'x', size: '64x64', num_frames: '5' } });
  assert.equal(form.status, 200);
  assert.equal((await probe(form.raw)).frames, 5);
  assertError(await d.post('/v1/videos/stream', { prompt: '' }), 400, 'missing_required_parameter', 'prompt');
});

test('HEAD does not follow the job', async () => {
  const { id } = await d.create(LONG);
  const r = await within('HEAD', d.request('HEAD', `/v1/videos/${id}/stream`), 5000);
  assert.equal(r.status, 200);
  assert.equal(r.headers['content-type'], 'video/mp4');
  await d.cancel(id);
});

test('no such video', async () => {
  assertError(await d.get('/v1/videos/video_0/stream'), 404, 'video_not_found');
});

test('signs of life while nothing happens', { timeout: 60000 }, async () => {
  await alive.stream.box('free');
  assert.deepEqual(alive.stream.types(), ['ftyp', 'moov', 'free']);
  assert.equal(boxes(alive.stream.bytes).at(-1).end - boxes(alive.stream.bytes).at(-1).start, 8);
  await until('a comment', () => alive.events.comments > 0);
  assert.ok(Date.now() - alive.since >= 10000, 'too often');
  alive.stream.response.destroy();
  alive.events.close();
});
