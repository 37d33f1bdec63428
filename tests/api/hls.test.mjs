// HLS: playlists that grow with the video, and the pieces they name; as players use them, and read strictly.
import fs from 'node:fs';
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Daemon, LONG, Raw, assertError, probe, run, until } from './harness.mjs';

let d;
let v; // a finished video of 64 frames in 5 blocks

before(async () => {
  d = await Daemon.start();
  v = await d.completed({ num_frames: 64, seed: 3 });
});
after(() => d?.stop());
afterEach(() => d.calm());

const PLAYLIST = 'application/vnd.apple.mpegurl';
const FRAMES = [17, 12, 12, 12, 11];

const at = (id, name) => `/v1/videos/${id}/hls/${name}`;
const head = (target) =>
  [
    '#EXTM3U',
    '#EXT-X-VERSION:7',
    `#EXT-X-TARGETDURATION:${target}`,
    '#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES',
    '#EXT-X-MEDIA-SEQUENCE:0',
    '#EXT-X-PLAYLIST-TYPE:EVENT',
    '#EXT-X-INDEPENDENT-SEGMENTS',
    '#EXT-X-START:TIME-OFFSET=0',
    '#EXT-X-MAP:URI="init.mp4"',
    '',
  ].join('\n');

function parse(text) {
  const target = Number(/^#EXT-X-TARGETDURATION:(\d+)$/m.exec(text)[1]);
  assert.ok(text.startsWith(head(target)), text);
  const rest = text.slice(head(target).length);
  const segments = [...rest.matchAll(/#EXTINF:(\d+\.\d{5}),\n(seg-\d{5}\.m4s)\n/g)];
  const ended = rest.endsWith('#EXT-X-ENDLIST\n');
  const all = segments.map((m) => m[0]).join('') + (ended ? '#EXT-X-ENDLIST\n' : '');
  assert.equal(rest, all, 'there is something else in the playlist');
  segments.forEach(([, seconds, name], i) => {
    assert.equal(name, `seg-${String(i).padStart(5, '0')}.m4s`);
    assert.ok(Number(seconds) > 0 && Number(seconds) <= target, `${seconds} of ${target}`);
  });
  return { target, ended, seconds: segments.map((m) => Number(m[1])), names: segments.map((m) => m[2]) };
}

async function playlist(id, query = '') {
  const r = await d.get(at(id, `index.m3u8${query}`));
  assert.equal(r.status, 200, r.text);
  assert.equal(r.headers['content-type'], PLAYLIST);
  assert.equal(r.headers['cache-control'], 'no-cache');
  assert.match(r.headers.etag, /^"[0-9a-f]{32}"$/);
  return { text: r.text, etag: r.headers.etag, ...parse(r.text) };
}

async function piece(id, name) {
  const r = await d.get(at(id, name));
  assert.equal(r.status, 200, `${name}: ${r.text}`);
  assert.equal(r.headers['content-type'], name === 'init.mp4' ? 'video/mp4' : 'video/iso.segment');
  assert.equal(r.headers['cache-control'], 'private, max-age=31536000, immutable');
  assert.equal(r.headers['accept-ranges'], 'bytes');
  assert.equal(r.headers['content-length'], String(r.raw.length));
  return r.raw;
}

test('a finished video: all blocks, and the end', async () => {
  const p = await playlist(v.id);
  assert.equal(p.target, 2);
  assert.equal(p.ended, true);
  assert.deepEqual(p.seconds, FRAMES.map((n) => n / 16));
  const init = await piece(v.id, 'init.mp4');
  const segments = await Promise.all(p.names.map((name) => piece(v.id, name)));
  const whole = await d.get(`/v1/videos/${v.id}/content?variant=fragmented`);
  assert.ok(Buffer.concat([init, ...segments]).equals(whole.raw));
  for (const [k, segment] of segments.entries()) {
    const { frames, errors } = await probe(Buffer.concat([init, segment]));
    assert.deepEqual([frames, errors], [FRAMES[k], ''], p.names[k]);
  }
});

test('the master playlist', async () => {
  const r = await d.get(at(v.id, 'master.m3u8'));
  assert.equal(r.status, 200);
  assert.equal(r.headers['content-type'], PLAYLIST);
  assert.equal(r.headers['cache-control'], 'no-cache');
  const lines = r.text.split('\n');
  assert.deepEqual(lines.slice(0, 3), ['#EXTM3U', '#EXT-X-VERSION:7', '#EXT-X-INDEPENDENT-SEGMENTS']);
  assert.deepEqual(lines.slice(4), ['index.m3u8', '']);
  const stream =
    /^#EXT-X-STREAM-INF:BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+),CODECS="(avc1\.[0-9a-f]{6})",RESOLUTION=64x64,FRAME-RATE=16\.000$/i.exec(
      lines[3],
    );
  assert.ok(stream, lines[3]);
  const sizes = await Promise.all(FRAMES.map(async (_, k) => (await piece(v.id, `seg-0000${k}.m4s`)).length));
  const rates = sizes.map((bytes, k) => (bytes * 8 * 16) / FRAMES[k]);
  const average = (sizes.reduce((a, b) => a + b) * 8 * 16) / 64;
  assert.deepEqual(stream.slice(1, 3).map(Number), [Math.ceil(Math.max(...rates)), Math.ceil(average)]);
});

test('ffmpeg plays it, by either playlist', async () => {
  for (const name of ['index.m3u8', 'master.m3u8']) {
    assert.deepEqual(await played(v.id, name), [64, '']);
  }
});

// Frames that ffmpeg gets out of it, and what it complains of. From the first segment on, and with more
// patience than by default, which is three reloads.
async function played(id, name) {
  const { err } = await run('ffmpeg', [
    ...['-nostdin', '-hide_banner', '-loglevel', 'level+info', '-live_start_index', '0', '-max_reload', '1000'],
    ...['-i', d.url + at(id, name), '-f', 'null', '-'],
  ]);
  const frames = [...err.matchAll(/frame= *(\d+)/g)].at(-1);
  // It reads the init segment anew whenever the playlist has grown, and is surprised each time.
  const complaints = err
    .split('\n')
    .filter((line) => /\[(warning|error|fatal)\]/.test(line) && !/duplicated MOOV/.test(line));
  return [Number(frames?.[1]), complaints.join('\n')];
}

test('ffmpeg follows a video that is being made', async () => {
  const { id } = await d.create({ num_frames: 320, size: '128x128' });
  await d.blocks(id, 1);
  const early = await playlist(id);
  assert.ok(early.names.length < 26 && !early.ended, early.text);
  assert.deepEqual(await played(id, 'index.m3u8'), [320, '']);
  assert.equal((await d.video(id)).status, 'completed');
});

test('a playlist from its creation on, and held until there is more', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const { id } = await d.create({ num_frames: 160 });
  let last = await playlist(id);
  assert.equal(last.text, head(2)); // the first block, with the remainder, has 17 frames
  await d.ok('POST', '/v1/queue/resume');
  let n = 0;
  for (; !last.ended; n++) {
    const next = await playlist(id, `?_HLS_msn=${last.names.length}`);
    assert.ok(next.text.startsWith(last.text), `${last.text}\nwas followed by\n${next.text}`);
    assert.ok(next.text.length > last.text.length, 'it came without anything new');
    // What is named is there.
    for (const name of next.names.slice(last.names.length)) {
      await piece(id, name);
    }
    last = next;
  }
  assert.ok(n >= 3, `${n} playlists`);
  assert.equal(last.names.length, 13);
  assert.equal(last.seconds.reduce((a, b) => a + b), 10);
  assert.deepEqual((await playlist(id)).text, last.text);
});

test('what is held: now if it is there, at the end of the job, not for ever', async () => {
  for (const query of ['?_HLS_msn=0', '?_HLS_msn=4', '?_HLS_msn=5', '?_HLS_msn=999999', '?_HLS_msn=', '?x=1']) {
    assert.equal((await playlist(v.id, query)).names.length, 5, query);
  }
  for (const bad of ['-1', 'x', '1.5', '99999999999999999999']) {
    assertError(await d.get(at(v.id, `index.m3u8?_HLS_msn=${bad}`)), 400, 'invalid_value', '_HLS_msn');
  }
  await d.ok('POST', '/v1/queue/pause');
  const cancelled = await d.create();
  const deleted = await d.create();
  const waits = await d.create();
  const unchanged = playlist(waits.id, '?_HLS_msn=0');
  const ends = playlist(cancelled.id, '?_HLS_msn=0');
  const gone = d.get(at(deleted.id, 'index.m3u8?_HLS_msn=0'));
  const leaves = await Raw.open(d.port);
  leaves.send(`GET ${at(cancelled.id, 'index.m3u8?_HLS_msn=0')} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await d.get('/healthz'); // by then it is held
  leaves.destroy();
  await d.cancel(cancelled.id);
  assert.equal((await ends).text, `${head(1)}#EXT-X-ENDLIST\n`);
  await d.ok('DELETE', `/v1/videos/${deleted.id}`);
  assertError(await gone, 404, 'video_not_found');
  assert.equal((await unchanged).text, head(1));
});

test('conditions and parts', async () => {
  const { etag } = await playlist(v.id);
  for (const [name, tag] of [
    ['index.m3u8', etag],
    ['init.mp4', (await d.get(at(v.id, 'init.mp4'))).headers.etag],
    ['seg-00001.m4s', (await d.get(at(v.id, 'seg-00001.m4s'))).headers.etag],
    ['master.m3u8', (await d.get(at(v.id, 'master.m3u8'))).headers.etag],
  ]) {
    const same = await d.get(at(v.id, name), { headers: { 'if-none-match': tag } });
    assert.equal(same.status, 304, name);
    assert.equal(same.raw.length, 0);
    assert.equal(same.headers.etag, tag);
    const other = await d.get(at(v.id, name), { headers: { 'if-none-match': '"x"' } });
    assert.equal(other.status, 200, name);
    const only = await d.request('HEAD', at(v.id, name));
    assert.deepEqual([only.status, only.raw.length], [200, 0]);
    assert.equal(only.headers['content-length'], String(other.raw.length), name);
    assert.equal(only.headers.etag, tag);
  }
  for (const name of ['init.mp4', 'seg-00002.m4s']) {
    const whole = await piece(v.id, name);
    const n = whole.length;
    const part = (range, headers = {}) => d.get(at(v.id, name), { headers: { range, ...headers } });
    for (const [range, first, last] of [
      ['bytes=0-1', 0, 1],
      ['bytes=10-', 10, n - 1],
      ['bytes=-7', n - 7, n - 1],
      [`bytes=5-${n + 100}`, 5, n - 1],
    ]) {
      const r = await part(range);
      assert.equal(r.status, 206, range);
      assert.equal(r.headers['content-range'], `bytes ${first}-${last}/${n}`);
      assert.ok(r.raw.equals(whole.subarray(first, last + 1)), range);
    }
    const behind = await part(`bytes=${n}-`);
    assertError(behind, 416, 'range_not_satisfiable');
    assert.equal(behind.headers['content-range'], `bytes */${n}`);
    const tag = (await part('bytes=0-1')).headers.etag;
    assert.equal((await part('bytes=0-1', { 'if-range': tag })).status, 206);
    assert.equal((await part('bytes=0-1', { 'if-range': '"x"' })).status, 200);
  }
});

async function notReady(id, name, retry) {
  const r = await d.get(at(id, name));
  assertError(r, 404, 'segment_not_ready');
  assert.equal(r.headers['retry-after'], retry, name);
}

test('what is not there', async () => {
  await notReady(v.id, 'seg-00005.m4s', undefined); // nor will it be
  for (const name of ['seg-5.m4s', 'seg-000001.m4s', 'index.m3u', 'seg-00000.mp4', '%2e%2e', 'seg-00000.m4s%00']) {
    assertError(await d.get(at(v.id, name)), 404, 'unknown_url');
  }
  assertError(await d.request('DELETE', at(v.id, 'init.mp4')), 405, 'method_not_allowed');
  for (const name of ['index.m3u8', 'master.m3u8', 'init.mp4', 'seg-00000.m4s']) {
    assertError(await d.get(at('video_0', name)), 404, 'video_not_found');
    assertError(await d.get(at('..%2f..', name)), 404, 'video_not_found');
  }
  const { id } = await d.create(LONG);
  await d.blocks(id, 1);
  assert.equal((await d.get(at(id, 'seg-00000.m4s'))).status, 200);
  await notReady(id, 'seg-00079.m4s', '1');
});

test('before the worker has looked at a job, there is nothing but a playlist', async () => {
  const [worker] = d.workerPids();
  process.kill(worker, 'SIGSTOP'); // which does not wait for all threads
  let id;
  try {
    const state = (t) => fs.readFileSync(`/proc/${worker}/task/${t}/stat`, 'utf8').replace(/.*\) /s, '')[0];
    await until('the worker stands still', () => fs.readdirSync(`/proc/${worker}/task`).every((t) => state(t) === 'T'));
    ({ id } = await d.create());
    assert.equal((await playlist(id)).text, head(1));
    for (const name of ['init.mp4', 'master.m3u8', 'seg-00000.m4s']) {
      await notReady(id, name, '1');
    }
  } finally {
    process.kill(worker, 'SIGCONT');
  }
  for (const name of ['init.mp4', 'master.m3u8', 'seg-00000.m4s']) {
    await until(name, async () => (await d.get(at(id, name))).status === 200);
  }
});

test('cancelled: what was made stays until its time is over', async () => {
  const { id } = await d.create(LONG);
  await d.blocks(id, 2);
  await d.cancel(id);
  const { blocks } = await d.video(id);
  const p = await playlist(id);
  assert.equal(p.ended, true);
  assert.equal(p.names.length, blocks.done);
  assert.deepEqual(await played(id, 'index.m3u8'), [blocks.frames_ready, '']);
  await d.ok('DELETE', `/v1/videos/${id}`);
  assertError(await d.get(at(id, 'index.m3u8')), 404, 'video_not_found');
});

test('after a restart the same, and from its first segment on', async () => {
  const before = await playlist(v.id);
  const { id } = await d.create(LONG);
  await d.blocks(id, 2);
  const made = await playlist(id);
  await d.crash();
  await d.launch();
  const again = await playlist(v.id);
  assert.deepEqual(again, before);
  assert.equal((await d.get(at(v.id, 'seg-00004.m4s'))).status, 200);
  const resumed = await playlist(id);
  assert.ok(resumed.text.startsWith(made.text), `${made.text}\nwas followed by\n${resumed.text}`);
});

test('when its time is over, it is gone', async () => {
  await d.terminate();
  Object.assign(d.conf, { 'storage.ttl': '1s', 'storage.partial_ttl': '1s' });
  await d.launch();
  const { id } = await d.completed();
  const cancelled = await d.create(LONG);
  await d.blocks(cancelled.id, 1);
  await d.cancel(cancelled.id);
  for (const old of [id, cancelled.id]) {
    await until('its end', async () => (await d.get(at(old, 'index.m3u8'))).status === 410, 90000);
    for (const name of ['index.m3u8', 'master.m3u8', 'init.mp4', 'seg-00000.m4s', 'seg-00099.m4s']) {
      assertError(await d.get(at(old, name)), 410, 'video_expired');
    }
  }
});
