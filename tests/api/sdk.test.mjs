// The official SDK, unmodified, as its users use it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { Daemon, ID, LONG, boxes, picture, probe, scratchFile, until } from './harness.mjs';

let d;
let client;
let seen; // what went over the wire: {method, path, status, retry}

// A client that tells what it does.
function connect(options = {}, url = d.url) {
  return new OpenAI({
    apiKey: 'sk-proj-1234567890',
    baseURL: `${url}/v1`,
    fetch: async (target, init) => {
      const retry = new Headers(init.headers).get('x-stainless-retry-count');
      const call = { method: init.method.toUpperCase(), path: new URL(target).pathname, retry };
      seen.push(call);
      const response = await fetch(target, init);
      call.status = response.status;
      return response;
    },
    ...options,
  });
}

function over(id) {
  return until(`end of ${id}`, async () => {
    const v = await client.videos.retrieve(id);
    return ['completed', 'failed'].includes(v.status) && v;
  });
}

async function failure(promise) {
  try {
    await promise;
  } catch (e) {
    return e;
  }
  assert.fail('it did not fail');
}

const SMALL = { prompt: 'A calico cat playing a piano on stage', size: '64x64', num_frames: 5 };

before(async () => {
  d = await Daemon.start({
    conf: { 'queue.capacity': '8', 'limits.multipart_body': '256KiB', 'limits.upload': '200KiB' },
  });
  seen = [];
  client = connect();
});
after(() => d?.stop());
afterEach(() => d.calm());

test('create without a file, poll, download', async () => {
  const made = await client.videos.create({
    model: 'sora-2',
    prompt: '  A calico cat playing a piano on stage ',
    size: '64x64',
    seconds: '4',
  });
  assert.match(made.id, ID);
  assert.match(made._request_id, /^req_[A-Za-z0-9._-]+$/);
  const { id, created_at } = made;
  const expected = {
    id,
    object: 'video',
    model: 'tiny-long',
    created_at,
    prompt: 'A calico cat playing a piano on stage',
    size: '64x64',
    seconds: '4',
    remixed_from_video_id: null,
    error: null,
  };
  const pick = (v) => Object.fromEntries(Object.keys(expected).map((key) => [key, v[key]]));
  assert.deepEqual(pick(made), expected);
  assert.equal(made.progress, 0);
  assert.equal(made.completed_at, null);
  assert.ok(Math.abs(created_at - Date.now() / 1000) < 60);

  const v = await over(id);
  assert.deepEqual(pick(v), expected);
  assert.equal(v.status, 'completed');
  assert.equal(v.progress, 100);
  assert.ok(v.completed_at >= created_at && v.completed_at < created_at + 60);
  assert.equal(v.expires_at, v.completed_at + 7 * 24 * 3600);

  const response = await client.videos.downloadContent(id);
  assert.equal(response.headers.get('content-type'), 'video/mp4');
  assert.equal(response.headers.get('content-disposition'), `attachment; filename="${id}.mp4"`);
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(bytes.length, v.size_bytes);
  assert.deepEqual(await probe(bytes), {
    codec: 'h264',
    width: 64,
    height: 64,
    frames: 64,
    rate: '16/1',
    duration: 4,
    errors: '',
  });
});

test('extra fields, metadata and tags', async () => {
  const v = await client.videos.create({
    ...SMALL,
    seed: 42,
    fps: 8,
    num_inference_steps: 4,
    guidance_scale: 1.5,
    metadata: { shot: 's010', take: '3' },
    tags: ['ep3', 'a/b'],
    user: 'ann',
    group: 'farm-7',
  });
  const { seed, fps, num_frames, num_inference_steps, guidance_scale } = v;
  assert.deepEqual([seed, fps, num_frames, num_inference_steps, guidance_scale], [42, 8, 5, 4, 1.5]);
  assert.deepEqual(v.metadata, { shot: 's010', take: '3' });
  assert.deepEqual(v.tags, ['ep3', 'a/b']);
  assert.equal(v.user, 'ann');
  assert.equal(v.group, 'farm-7');
  assert.equal(v.seconds, '0.625');
  assert.equal((await over(v.id)).status, 'completed');
});

test('reference picture: toFile, read stream, data URL; all mean the same', async () => {
  const file = picture('ref.png');
  const data = `data:image/png;base64,${fs.readFileSync(file, 'base64')}`;
  const references = {
    none: undefined,
    toFile: await toFile(fs.readFileSync(file), 'ref.png', { type: 'image/png' }),
    stream: fs.createReadStream(file),
    object: { image_url: data },
  };
  const etags = {};
  for (const [name, input_reference] of Object.entries(references)) {
    const v = await client.videos.create({ ...SMALL, seed: 3, input_reference });
    assert.equal((await over(v.id)).status, 'completed', name);
    etags[name] = await d.etag(v.id);
  }
  assert.equal(etags.stream, etags.toFile);
  assert.equal(etags.object, etags.toFile);
  assert.notEqual(etags.none, etags.toFile);
});

test('list pages through everything', async () => {
  const ids = [];
  for (let i = 0; i < 5; i++) {
    ids.push((await client.videos.create({ ...SMALL, user: 'pages' })).id);
  }
  for (const [order, expected] of [
    ['asc', ids],
    ['desc', [...ids].reverse()],
  ]) {
    seen = [];
    const found = [];
    for await (const v of client.videos.list({ limit: 2, order, user: 'pages' })) {
      found.push(v.id);
    }
    assert.deepEqual(found, expected, order);
    assert.equal(seen.length, 3);
  }
  const page = await client.videos.list({ limit: 3, user: 'pages', after: ids[1] });
  assert.deepEqual(page.data.map((v) => v.id), [ids[0]]);
  await Promise.all(ids.map(over));
});

test('download while it is generated', async () => {
  const v = await client.videos.create({ ...SMALL, num_frames: 160, size: '96x96', seed: 9 });
  const response = await client.videos.downloadContent(v.id, undefined, { query: { stream: 'true' } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'video/mp4');
  let chunks = 0;
  let early;
  let bytes = Buffer.alloc(0);
  for await (const chunk of response.body) {
    chunks++;
    bytes = Buffer.concat([bytes, chunk]);
    if (early === undefined && bytes.includes('moof')) {
      early = (await client.videos.retrieve(v.id)).status;
    }
  }
  assert.equal(early, 'in_progress');
  assert.ok(chunks > 3, `${chunks} chunks`);
  const found = await probe(bytes);
  assert.deepEqual([found.frames, found.duration, found.errors], [160, 10, '']);
  assert.equal(boxes(bytes).filter((b) => b.type === 'moof').length, 13);
});

test('thumbnail and sprite sheet', async () => {
  const v = await over((await client.videos.create(SMALL)).id);
  for (const variant of ['thumbnail', 'spritesheet']) {
    const response = await client.videos.downloadContent(v.id, { variant });
    assert.match(response.headers.get('content-type'), /^image\/(webp|jpeg)$/);
    assert.ok((await response.arrayBuffer()).byteLength > 100);
  }
});

test('delete', async () => {
  const v = await over((await client.videos.create(SMALL)).id);
  const gone = await client.videos.delete(v.id);
  assert.deepEqual({ ...gone }, { id: v.id, object: 'video.deleted', deleted: true });
  for (const again of [client.videos.delete(v.id), client.videos.retrieve(v.id)]) {
    const e = await failure(again);
    assert.ok(e instanceof OpenAI.NotFoundError);
    assert.equal(e.code, 'video_not_found');
  }
});

test('delete while it runs', async () => {
  const v = await client.videos.create({ ...SMALL, ...LONG, num_frames: 960 });
  await d.running(v.id);
  assert.equal((await client.videos.delete(v.id)).deleted, true);
  await until('a free device', async () => (await d.ok('GET', '/v1/queue')).running.length === 0, 5000);
});

test('errors are typed and say code, param and request', async () => {
  const bad = { ...SMALL, seconds: '0', num_frames: undefined };
  for (const [call, type, status, code, param] of [
    [() => client.videos.create(bad), OpenAI.BadRequestError, 400, 'invalid_seconds', 'seconds'],
    [() => client.videos.create({ size: '64x64' }), OpenAI.BadRequestError, 400, 'missing_required_parameter', 'prompt'],
    [() => client.videos.create({ ...SMALL, model: 'sora-9' }), OpenAI.NotFoundError, 404, 'model_not_found', 'model'],
    [() => client.videos.create({ ...SMALL, promt: 'x' }), OpenAI.BadRequestError, 400, 'unknown_parameter', 'promt'],
    [() => client.videos.retrieve('video_nope'), OpenAI.NotFoundError, 404, 'video_not_found', 'video_id'],
    [() => client.videos.retrieve('a/b?c'), OpenAI.NotFoundError, 404, 'video_not_found', 'video_id'],
    [() => client.videos.list({ limit: 101 }), OpenAI.BadRequestError, 400, 'invalid_value', 'limit'],
  ]) {
    seen = [];
    const e = await failure(call());
    assert.ok(e instanceof type, String(e));
    assert.deepEqual([e.status, e.code, e.param], [status, code, param]);
    assert.equal(e.type, 'invalid_request_error');
    assert.match(e.requestID, /^req_/);
    assert.equal(seen.length, 1);
  }
});

test('content before the end is not tried again', async () => {
  const v = await client.videos.create({ ...SMALL, ...LONG, num_frames: 960 });
  seen = [];
  const e = await failure(client.videos.downloadContent(v.id));
  assert.ok(e instanceof OpenAI.NotFoundError);
  assert.equal(e.code, 'video_not_ready');
  assert.equal(seen.length, 1);
  await d.cancel(v.id);
  const failed = await over(v.id);
  assert.equal(failed.status, 'failed');
  assert.equal(failed.error.code, 'cancelled');
  seen = [];
  const f = await failure(client.videos.downloadContent(v.id));
  assert.deepEqual([f.status, f.code, seen.length], [422, 'video_generation_failed', 1]);
});

test('413 arrives, and the upload is not sent again', async () => {
  const big = scratchFile('big.png', Buffer.alloc(3 << 20, 7));
  const before = (await client.videos.list({ limit: 1 })).data[0]?.id;
  for (const file of [await toFile(fs.readFileSync(big), 'big.png'), fs.createReadStream(big)]) {
    seen = [];
    const e = await failure(client.videos.create({ ...SMALL, input_reference: file }));
    assert.deepEqual([e.status, e.code], [413, 'payload_too_large']);
    assert.equal(seen.length, 1);
  }
  assert.equal((await client.videos.list({ limit: 1 })).data[0]?.id, before);
});

test('429: the SDK tries again, and then it works', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const ids = [];
  for (let i = 0; i < 8; i++) {
    ids.push((await client.videos.create(SMALL)).id);
  }
  const e = await failure(client.videos.create(SMALL, { maxRetries: 0 }));
  assert.ok(e instanceof OpenAI.RateLimitError);
  assert.deepEqual([e.code, e.type], ['queue_full', 'rate_limit_error']);
  const wait = Number(e.headers.get('retry-after'));
  assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 60, `retry-after ${wait}`);
  const waitMs = Number(e.headers.get('retry-after-ms'));
  assert.ok(waitMs > 0 && waitMs <= 60000, `retry-after-ms ${waitMs}`);

  seen = [];
  const late = client.videos.create({ ...SMALL, user: 'late' });
  await until('the refusal', () => seen[0]?.status === 429);
  await d.ok('POST', '/v1/queue/resume');
  const v = await late;
  assert.equal(v.user, 'late');
  assert.ok(seen.length >= 2);
  await Promise.all([...ids, v.id].map(over));
});

test('409 while the first of a key is still coming; then its answer', async () => {
  const half = http.request(`${d.url}/v1/videos`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'idempotency-key': 'twice',
      authorization: 'Bearer sk-proj-1234567890',
    },
  });
  const first = new Promise((resolve, reject) => {
    half.on('response', resolve);
    half.on('error', reject);
  });
  half.write('{"prompt":"A cat","size":"64x64","num_frames":5,"user":"once"');
  await until('the connection', () => half.socket?.bytesWritten > 100);
  const body = { prompt: 'A cat', size: '64x64', num_frames: 5, user: 'once' };
  const headers = { 'Idempotency-Key': 'twice' };
  const other = { ...body, size: '66x64' };
  const e = await failure(client.videos.create(other, { headers, maxRetries: 0 }));
  assert.ok(e instanceof OpenAI.ConflictError);
  assert.equal(e.code, 'idempotency_in_progress');
  assert.equal(e.headers.get('retry-after'), '1');
  half.end('}');
  const response = await first;
  assert.equal(response.statusCode, 200);
  const text = (await response.toArray()).join('');
  const again = await client.videos.create(body, { headers });
  assert.equal(again.id, JSON.parse(text).id);
  await over(again.id);
});

// Forwards connections; the first one is cut when `when` happens: 'sent' the whole request has gone to the
// daemon, 'answered' the first byte of its answer has come.
async function proxy(when, requestEnd) {
  const sockets = new Set();
  let first = true;
  const server = net.createServer((down) => {
    const mine = first;
    first = false;
    const up = net.connect(d.port, '127.0.0.1');
    sockets.add(down);
    const cut = () => {
      up.resetAndDestroy();
      down.resetAndDestroy();
    };
    let head = '';
    down.on('data', (chunk) => {
      head += chunk.toString('latin1');
      up.write(chunk, () => {
        if (mine && when === 'sent' && requestEnd(head)) {
          cut();
        }
      });
    });
    up.on('data', (chunk) => (mine ? cut() : down.write(chunk)));
    for (const [from, to] of [
      [up, down],
      [down, up],
    ]) {
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      sockets.forEach((socket) => socket.destroy());
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

for (const when of ['sent', 'answered']) {
  test(`a connection that breaks when the request is ${when} makes one job`, async () => {
    const server = await proxy(when, (text) => /--\r\n$/.test(text));
    const user = `cut-${when}`;
    try {
      const cut = connect({}, server.url);
      seen = [];
      const v = await cut.videos.create({ ...SMALL, user });
      assert.deepEqual(seen.map((call) => call.retry), ['0', '1']);
      const { data } = await client.videos.list({ user });
      assert.deepEqual(data.map((found) => found.id), [v.id]);
      await over(v.id);
    } finally {
      await server.close();
    }
  });
}

test('with an idempotency key, too', async () => {
  const server = await proxy('answered');
  try {
    const cut = connect({}, server.url);
    cut.idempotencyHeader = 'Idempotency-Key';
    const v = await cut.videos.create({ ...SMALL, user: 'keyed' });
    const { data } = await client.videos.list({ user: 'keyed' });
    assert.deepEqual(data.map((found) => found.id), [v.id]);
    await over(v.id);
  } finally {
    await server.close();
  }
});

test('models', async () => {
  const list = [];
  for await (const model of client.models.list()) {
    list.push(model);
  }
  assert.equal(list.length, 1);
  assert.equal(list[0].id, 'tiny-long');
  const one = await client.models.retrieve('tiny-long');
  assert.deepEqual({ ...one }, { ...list[0] });
});
