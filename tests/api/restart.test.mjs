// Ends of all kinds, and what comes after: nothing that was accepted is lost, and no picture changes.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Daemon, assertError, boxes, until, within } from './harness.mjs';

let d;
let reference; // the undisturbed video: {etag, fragmented, frames}
const WORK = { num_frames: 160, size: '96x96', seed: 33 };

const fragmented = async (id) => (await d.get(`/v1/videos/${id}/content?variant=fragmented`)).raw;

before(async () => {
  d = await Daemon.start({ conf: { 'worker.restart_delay': '10ms' } });
  const { id } = await d.completed(WORK);
  reference = { id, etag: await d.etag(id), fragmented: await fragmented(id), video: await d.video(id) };
});
after(() => d?.stop());
afterEach(() => d.calm());

async function same(id) {
  const v = await d.over(id);
  assert.equal(v.status, 'completed', JSON.stringify(v.error));
  assert.equal(await d.etag(id), reference.etag);
  assert.ok((await fragmented(id)).equals(reference.fragmented));
  return v;
}

async function killWorker() {
  const [pid] = d.workerPids();
  process.kill(pid, 'SIGKILL');
  await until('its end', () => !d.workerPids().includes(pid));
}

test('a finished video is the same after a restart', async () => {
  const target = `/v1/videos/${reference.id}/content`;
  const before = await d.get(target);
  await d.terminate();
  await d.launch();
  const after = await d.get(target);
  assert.equal(after.headers.etag, reference.etag);
  assert.equal(after.headers['last-modified'], before.headers['last-modified']);
  assert.ok(after.raw.equals(before.raw));
  assert.deepEqual(await d.video(reference.id), reference.video);
  const seek = await d.get(target, { headers: { range: 'bytes=0-1', 'if-range': reference.etag } });
  assert.equal(seek.status, 206);
});

test('SIGTERM lets a running job finish, takes no new one, and ends', async () => {
  await d.terminate();
  d.conf.drain_timeout = '30s';
  await d.launch();
  const { id } = await d.create(WORK);
  const queued = await d.create();
  const viewer = d.open('GET', `/v1/videos/${id}/stream`).then((r) => r.toArray().then(() => r.complete));
  await d.blocks(id, 1);
  process.kill(d.child.pid, 'SIGTERM');
  const ready = await until('draining', async () => {
    const r = await d.get('/readyz');
    return r.status === 503 && r;
  });
  assert.deepEqual(ready.json, { status: 'draining' });
  const refused = await d.post('/v1/videos', { prompt: 'x' });
  assertError(refused, 503, 'draining');
  assert.ok(Number(refused.headers['retry-after']) >= 1);
  assert.equal((await d.video(id)).status, 'in_progress');
  assert.equal(await within('the stream', viewer), true);
  assert.equal(await within('the end', d.gone, 40000), 0);
  await d.terminate();
  d.conf.drain_timeout = '0s';
  await d.launch();
  await same(id);
  const v = await d.over(queued.id);
  assert.equal(v.status, 'completed');
});

test('SIGTERM with no time left: the job goes on after the restart', async () => {
  const { id } = await d.create(WORK);
  const { blocks } = await d.blocks(id, 2);
  await d.terminate();
  await d.launch();
  const again = await d.video(id);
  assert.ok(['queued', 'in_progress'].includes(again.status), again.status);
  assert.ok(again.blocks.done >= blocks.done);
  await same(id);
});

test('a worker that is killed: viewers stay, the video is what it would have been', async () => {
  const { id } = await d.create(WORK);
  const events = await d.events(`/v1/videos/${id}/events`);
  const response = await d.open('GET', `/v1/videos/${id}/stream`);
  const stream = response.toArray();
  for (const n of [2, 5]) {
    await d.blocks(id, n);
    await killWorker();
    assert.equal((await d.get('/healthz')).status, 200);
  }
  const v = await same(id);
  assert.equal(v.restarts, 2);
  const bytes = Buffer.concat(await stream);
  assert.equal(response.complete, true);
  const fragments = boxes(bytes).filter((b) => b.type === 'moof').length;
  assert.equal(fragments, 13);
  assert.ok(bytes.equals(reference.fragmented));
  const list = await events.end();
  const indices = list.filter((e) => e.type === 'video.block').map((e) => e.data.index);
  assert.deepEqual(indices, [...Array(13).keys()]);
  assert.equal(list.at(-1).type, 'video.completed');
});

test('the daemon is killed: the job goes on where it was, event numbers rise on', async () => {
  const queued = [];
  const { id } = await d.create(WORK);
  for (let i = 0; i < 3; i++) {
    queued.push((await d.create({ num_frames: 1 })).id);
  }
  const feed = await d.events(`/v1/videos/${id}/events`);
  const { blocks } = await d.blocks(id, 3);
  await d.crash();
  const before = feed.list;
  const last = before.at(-1).id;
  await d.launch();
  const again = await d.video(id);
  assert.ok(['queued', 'in_progress'].includes(again.status), again.status);
  assert.ok(again.blocks.done >= blocks.done, `${again.blocks.done} < ${blocks.done}`);
  const rest = await d.events(`/v1/videos/${id}/events`, { 'last-event-id': String(last) });
  const list = await rest.end();
  assert.ok(list.every((e) => e.id > last));
  const indices = [...before, ...list].filter((e) => e.type === 'video.block').map((e) => e.data.index);
  assert.deepEqual(indices, [...Array(13).keys()]);
  await same(id);
  for (const q of queued) {
    assert.equal((await d.over(q)).status, 'completed');
  }
  const starts = (await Promise.all(queued.map((q) => d.video(q)))).map((v) => v.started_at);
  assert.deepEqual(starts, [...starts].sort());
  // It was stopped and cannot have been taken for cancelled; and the earlier ones are whole.
  assert.equal(await d.etag(reference.id), reference.etag);
});

test('a job that kills its workers fails; the next one runs', async () => {
  const { id } = await d.create({ num_frames: 160, size: '320x320' });
  const next = await d.create();
  const killed = new Set();
  const v = await until('failure', async () => {
    const now = await d.video(id);
    assert.notEqual(now.status, 'completed');
    if (now.status === 'failed') {
      return now;
    }
    const [pid] = d.workerPids();
    const { running } = await d.ok('GET', '/v1/queue');
    if (pid && !killed.has(pid) && running.some((r) => r.id === id)) {
      killed.add(pid);
      process.kill(pid, 'SIGKILL');
    }
    return false;
  });
  // A worker that had only been chosen for the job did not die of it.
  assert.ok(killed.size >= 3 && killed.size <= 5, `${killed.size}`);
  assert.equal(typeof v.error.code, 'string');
  assert.notEqual(v.error.code, 'cancelled');
  assert.equal((await d.over(next.id)).status, 'completed');
  assertError(await d.get(`/v1/videos/${id}/content`), 422, 'video_generation_failed');
});
