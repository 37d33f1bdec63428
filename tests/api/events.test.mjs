// Server-Sent Events: order, numbers that only rise, and that nobody who comes back misses or repeats one.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import { Daemon, Events, assertError, until } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start();
});
after(() => d?.stop());
afterEach(() => d.calm());

const TYPES = [
  'video.snapshot',
  'video.queued',
  'video.in_progress',
  'video.progress',
  'video.block',
  'video.completed',
  'video.failed',
  'video.deleted',
  'stream.reset',
];

const pause = () => d.ok('POST', '/v1/queue/pause');
const resume = () => d.ok('POST', '/v1/queue/resume');

function rising(list) {
  for (let i = 1; i < list.length; i++) {
    assert.ok(list[i].id > list[i - 1].id, `${list[i].id} after ${list[i - 1].id}`);
  }
}

// What stays for those who come back.
const kept = (list) => list.filter((e) => e.type !== 'video.progress' && e.type !== 'video.snapshot');

// Makes a video and returns all its events, from the snapshot on.
async function followed(fields) {
  await pause();
  const { id } = await d.create(fields);
  const events = await d.events(`/v1/videos/${id}/events`);
  await events.find((e) => e.type === 'video.snapshot');
  await resume();
  return { id, events, list: await events.end() };
}

test('a job from its snapshot to its end', async () => {
  const { id, events, list } = await followed({ num_frames: 33 });
  const { headers } = events.response;
  assert.equal(headers['content-type'], 'text/event-stream; charset=utf-8');
  assert.equal(headers['cache-control'], 'no-store');
  assert.equal(headers['x-accel-buffering'], 'no');
  assert.equal(events.retry, 2000);
  rising(list);
  for (const e of list) {
    assert.equal(e.seq, e.id);
    assert.equal(e.data.id, id);
  }
  const order = events.types().filter((t) => t !== 'video.progress' && t !== 'video.queued');
  assert.deepEqual(order, [
    'video.snapshot',
    'video.in_progress',
    'video.block',
    'video.block',
    'video.block',
    'video.completed',
  ]);
  const of = (type) => list.filter((e) => e.type === type).map((e) => e.data);
  assert.equal(of('video.snapshot')[0].status, 'queued');
  assert.equal(of('video.in_progress')[0].status, 'in_progress');
  assert.equal(of('video.completed')[0].progress, 100);
  assert.deepEqual(of('video.completed')[0], await d.video(id));

  const raw = (await d.get(`/v1/videos/${id}/content?variant=fragmented`)).raw;
  let bytes = raw.indexOf('moof') - 4;
  const first = [0, 9, 21];
  of('video.block').forEach((b, i) => {
    assert.deepEqual([b.index, b.total, b.frames], [i, 3, [9, 12, 12][i]]);
    assert.ok(Math.abs(b.start_s - first[i] / 16) < 0.001, `${b.start_s}`);
    assert.ok(Math.abs(b.duration_s - b.frames / 16) < 0.001, `${b.duration_s}`);
    assert.ok(b.gen_s >= 0);
    bytes += b.bytes;
  });
  assert.equal(bytes, raw.length);

  let progress = 0;
  for (const p of of('video.progress')) {
    assert.ok(Number.isInteger(p.progress) && p.progress >= progress && p.progress <= 99);
    progress = p.progress;
    assert.equal(typeof p.phase, 'string');
  }
});

test('a job that is over: snapshot, its end, and no more', async () => {
  const { id } = await d.completed();
  const events = await d.events(`/v1/videos/${id}/events`);
  const list = await events.end(5000);
  assert.deepEqual(events.types(), ['video.snapshot', 'video.completed']);
  assert.ok(list[0].id <= list[1].id);
  assert.deepEqual(list[0].data, await d.video(id));
  assert.deepEqual(list[1].data, list[0].data);
});

test('whoever comes back gets exactly what is missing', async () => {
  const { id, list } = await followed({ num_frames: 33 });
  const target = `/v1/videos/${id}/events`;
  const all = await d.events(target, { 'last-event-id': '0' });
  const log = kept(await all.end());
  assert.equal(log[0].type, 'video.queued');
  assert.deepEqual(kept(log), kept([...log.filter((e) => e.id <= list[0].id), ...list]));
  for (const e of list) {
    const rest = kept(list).filter((later) => later.id > e.id);
    for (const [query, headers] of [
      ['', { 'last-event-id': String(e.id) }],
      [`?last_event_id=${e.id}`, {}],
    ]) {
      const response = await d.open('GET', target + query, { headers });
      assert.equal(response.statusCode, rest.length === 0 ? 204 : 200);
      const again = new Events(response);
      const got = await again.end(5000);
      assert.ok(got.every((later) => later.id > e.id));
      assert.deepEqual(kept(got), rest);
    }
  }
  const past = await d.get(target, { headers: { 'last-event-id': String(list.at(-1).id + 1) } });
  assert.equal(past.status, 204);
  for (const bad of ['x', '-1', '1.5', '99999999999999999999999']) {
    const r = await d.open('GET', target, { headers: { 'last-event-id': bad } });
    assert.ok(r.statusCode < 500, bad);
    r.destroy();
  }
});

test('EventSource: connections that break lose and repeat nothing; 204 stops it', async () => {
  await pause();
  const { id } = await d.create({ num_frames: 64, size: '128x128' });
  const sockets = new Set();
  let cuts = 0;
  // Cuts each of the first connections behind its first block.
  const server = net.createServer((down) => {
    const up = net.connect(d.port, '127.0.0.1');
    sockets.add(down);
    down.on('close', () => sockets.delete(down));
    down.pipe(up);
    up.on('data', (chunk) => {
      down.write(chunk);
      if (cuts < 1 && chunk.includes('event: video.block')) {
        cuts++;
        down.end();
        up.destroy();
      }
    });
    up.on('end', () => down.end());
    for (const [a, b] of [
      [up, down],
      [down, up],
    ]) {
      a.on('error', () => b.destroy());
      a.on('close', () => b.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const statuses = [];
  const seen = [];
  const source = new EventSource(`http://127.0.0.1:${server.address().port}/v1/videos/${id}/events`, {
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      statuses.push(response.status);
      return response;
    },
  });
  try {
    for (const type of TYPES) {
      source.addEventListener(type, (e) =>
        seen.push({ id: Number(e.lastEventId), type, data: JSON.parse(e.data).data }),
      );
    }
    await until('the snapshot', () => seen.length > 0);
    await resume();
    await until('the end', () => source.readyState === EventSource.CLOSED, 60000);
  } finally {
    source.close();
    sockets.forEach((s) => s.destroy());
    await new Promise((resolve) => server.close(resolve));
  }
  assert.equal(cuts, 1);
  assert.deepEqual(statuses, [200, 200, 204]);
  rising(seen);
  const blocks = seen.filter((e) => e.type === 'video.block').map((e) => e.data.index);
  assert.deepEqual(blocks, [0, 1, 2, 3, 4]);
  assert.equal(seen.filter((e) => e.type === 'video.snapshot').length, 1);
  assert.equal(seen.at(-1).type, 'video.completed');
});

test('the global route has the same events under the same numbers', async () => {
  const all = await d.events('/v1/events');
  const { id, list } = await followed({ num_frames: 33 });
  await d.ok('DELETE', `/v1/videos/${id}`);
  const gone = await all.find((e) => e.type === 'video.deleted');
  assert.deepEqual(gone.data, { id });
  const mine = all.list.filter((e) => e.data.id === id);
  rising(all.list);
  const own = list.filter((e) => e.type !== 'video.snapshot');
  for (const e of own) {
    assert.deepEqual(mine.find((m) => m.id === e.id), e);
  }
  assert.equal(all.ended, false);
  all.close();

  const since = gone.id - 1;
  const back = await d.events('/v1/events', { 'last-event-id': String(since) });
  assert.equal((await back.find(() => true)).id, gone.id);
  back.close();
});

test('filters of the global route', async () => {
  const open = (query) => d.events(`/v1/events?${query}`);
  const feeds = {
    types: await open('types=video.completed,video.deleted'),
    tag: await open('tag=wanted'),
    group: await open('group=farm&types=video.completed'),
    status: await open('status=failed'),
  };
  const a = await d.completed({ tags: ['wanted', 'x'], group: 'farm' });
  const b = await d.completed({ tags: ['other'] });
  await pause();
  const c = await d.create();
  await d.cancel(c.id);
  await resume();
  await d.ok('DELETE', `/v1/videos/${b.id}`);
  await feeds.types.find((e) => e.type === 'video.deleted');
  await feeds.status.find((e) => e.data.id === c.id && e.type === 'video.failed');
  const brief = (feed) => feed.list.map((e) => `${e.type} ${e.data.id}`);
  assert.deepEqual(brief(feeds.types), [
    `video.completed ${a.id}`,
    `video.completed ${b.id}`,
    `video.deleted ${b.id}`,
  ]);
  assert.deepEqual(brief(feeds.group), [`video.completed ${a.id}`]);
  assert.deepEqual([...new Set(feeds.tag.list.map((e) => e.data.id))], [a.id]);
  assert.ok(feeds.tag.types().includes('video.completed'));
  assert.deepEqual([...new Set(feeds.status.list.map((e) => e.data.id))], [c.id]);
  Object.values(feeds).forEach((feed) => feed.close());
  for (const query of ['types=video.nonsense', 'status=done']) {
    assert.equal((await d.get(`/v1/events?${query}`)).status, 400, query);
  }
});

test('failed and deleted jobs end their streams', async () => {
  await pause();
  for (const end of ['video.failed', 'video.deleted']) {
    const { id } = await d.create();
    const events = await d.events(`/v1/videos/${id}/events`);
    await events.find((e) => e.type === 'video.snapshot');
    if (end === 'video.failed') {
      await d.cancel(id);
    } else {
      await d.ok('DELETE', `/v1/videos/${id}`);
    }
    const list = await events.end(5000);
    if (end === 'video.failed') {
      assert.equal(list.at(-1).type, end);
      assert.equal(list.at(-1).data.error.code, 'cancelled');
    } else {
      assertError(await d.get(`/v1/videos/${id}/events`), 404, 'video_not_found');
    }
  }
  await resume();
  assertError(await d.get('/v1/videos/video_0/events'), 404, 'video_not_found');
});

test('places in the queue are events', async () => {
  await pause();
  const a = await d.create();
  const b = await d.create();
  const events = await d.events(`/v1/videos/${b.id}/events`);
  const first = await events.find((e) => e.type === 'video.snapshot');
  assert.equal(first.data.queue_position, 2);
  await d.cancel(a.id);
  const moved = await events.find((e) => e.type === 'video.queued' && e.id > first.id);
  assert.deepEqual([moved.data.id, moved.data.status, moved.data.queue_position], [b.id, 'queued', 1]);
  await resume();
  await events.end();
});

test('a number that is no longer kept', async () => {
  const { id, list } = await followed({ num_frames: 33 });
  const first = list[0].id;
  await d.terminate();
  Object.assign(d.conf, { 'events.keep': '1', 'events.keep_time': '0s' });
  await d.launch();
  const target = `/v1/videos/${id}/events`;
  const events = await until('reset', async () => {
    const feed = await d.events(target, { 'last-event-id': '1' });
    await feed.end(5000);
    return feed.types()[0] === 'stream.reset' && feed;
  });
  assert.deepEqual(events.types().slice(0, 2), ['stream.reset', 'video.snapshot']);
  assert.ok(events.list[1].id > first);
  assert.equal(events.list[1].data.status, 'completed');
});
