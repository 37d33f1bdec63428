// GET and HEAD /v1/videos/{id}/content: variants, ranges, conditions, and that what comes plays.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { Daemon, LONG, assertError, boxes, probe, run, scratchFile } from './harness.mjs';

let d;
let v; // a finished video of 33 frames in 3 blocks
let file; // its bytes
let etag;

before(async () => {
  d = await Daemon.start();
  v = await d.completed({ num_frames: 33, seed: 11 });
  const r = await d.get(`/v1/videos/${v.id}/content`);
  assert.equal(r.status, 200);
  file = r.raw;
  etag = r.headers.etag;
});
after(() => d?.stop());
afterEach(() => d.calm());

function content(query = '', options = {}, method = 'GET') {
  return d.request(method, `/v1/videos/${v.id}/content${query}`, options);
}

test('the whole file', async () => {
  for (const query of ['', '?variant=video']) {
    const { status, headers, raw } = await content(query);
    assert.equal(status, 200);
    assert.ok(raw.equals(file));
    assert.equal(headers['content-type'], 'video/mp4');
    assert.equal(headers['content-length'], String(file.length));
    assert.equal(headers['accept-ranges'], 'bytes');
    assert.equal(headers['cache-control'], 'private, max-age=31536000, immutable');
    assert.equal(headers['content-disposition']?.startsWith('inline'), true);
    assert.equal(headers.etag, `"sha256-${crypto.createHash('sha256').update(file).digest('hex')}"`);
    assert.ok(Math.abs(Date.parse(headers['last-modified']) / 1000 - v.completed_at) <= 1);
    assert.equal(headers['x-video-id'], v.id);
    assert.equal(headers['x-video-seed'], '11');
    assert.equal(headers['x-video-frames'], '33');
    assert.equal(headers['x-video-fps'], '16');
    assert.match(headers['x-inference-time-s'], /^\d+\.\d{3}$/);
    assert.equal(headers['content-encoding'], undefined);
  }
  assert.equal(v.size_bytes, file.length);
  assert.equal(`"sha256-${v.sha256}"`, etag);
});

test('it plays, and starts before it is whole', async () => {
  assert.deepEqual(await probe(file), {
    codec: 'h264',
    width: 64,
    height: 64,
    frames: 33,
    rate: '16/1',
    duration: 2.0625,
    errors: '',
  });
  const types = boxes(file).map((b) => b.type);
  assert.equal(types[0], 'ftyp');
  assert.ok(types.includes('moov') && types.indexOf('moov') < types.indexOf('mdat'), String(types));
  assert.ok(!types.includes('moof'));
});

test('the fragmented file has the same pictures', async () => {
  const { status, headers, raw } = await content('?variant=fragmented');
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'video/mp4');
  assert.match(headers.etag, /^"[^"]+"$/);
  assert.notEqual(headers.etag, etag);
  const types = boxes(raw).map((b) => b.type);
  assert.deepEqual(
    types.filter((t) => t !== 'styp' && t !== 'mfra'),
    ['ftyp', 'moov', 'moof', 'mdat', 'moof', 'mdat', 'moof', 'mdat'],
  );
  const pictures = async (bytes) => {
    const name = scratchFile('pictures.mp4', bytes);
    const { status: ok, out } = await run('ffmpeg', ['-v', 'error', '-i', name, '-f', 'framemd5', '-']);
    assert.equal(ok, 0);
    return String(out)
      .split('\n')
      .filter((line) => line && !line.startsWith('#'))
      .map((line) => line.split(',').at(-1).trim());
  };
  const a = await pictures(file);
  assert.equal(a.length, 33);
  assert.deepEqual(await pictures(raw), a);

  const range = await content('?variant=fragmented', { headers: { range: 'bytes=10-19' } });
  assert.equal(range.status, 206);
  assert.ok(range.raw.equals(raw.subarray(10, 20)));
});

test('stream=true of a finished video is the fragmented file', async () => {
  const whole = await content('?variant=fragmented');
  const { status, raw } = await content('?stream=true');
  assert.equal(status, 200);
  assert.ok(raw.equals(whole.raw));
});

test('ranges', async () => {
  const n = file.length;
  for (const [range, first, last] of [
    ['bytes=0-1', 0, 1],
    ['bytes=0-0', 0, 0],
    ['bytes=0-', 0, n - 1],
    [`bytes=0-${n - 1}`, 0, n - 1],
    [`bytes=0-${n + 1000}`, 0, n - 1],
    ['bytes=100-199', 100, 199],
    [`bytes=${n - 1}-`, n - 1, n - 1],
    ['bytes=-1', n - 1, n - 1],
    ['bytes=-100', n - 100, n - 1],
    [`bytes=-${n}`, 0, n - 1],
    [`bytes=-${n + 5}`, 0, n - 1],
    ['bytes=5-18446744073709551615', 5, n - 1],
    ['Bytes=0-1', 0, 1],
  ]) {
    const { status, headers, raw } = await content('', { headers: { range } });
    assert.equal(status, 206, range);
    assert.equal(headers['content-range'], `bytes ${first}-${last}/${n}`, range);
    assert.equal(headers['content-length'], String(last - first + 1), range);
    assert.equal(headers.etag, etag);
    assert.ok(raw.equals(file.subarray(first, last + 1)), range);
  }
  // Malformed ones and several at once are as if there were none.
  for (const range of ['bytes=0-1,5-6', 'bytes=5-4', 'bytes=', 'bytes=-', 'bytes=a-b', 'items=0-1', '0-1', 'bytes=1', 'bytes=--1']) {
    const { status, raw } = await content('', { headers: { range } });
    assert.equal(status, 200, range);
    assert.equal(raw.length, n, range);
  }
  for (const range of [`bytes=${n}-`, `bytes=${n}-${n + 5}`, 'bytes=-0', 'bytes=18446744073709551615-']) {
    const r = await content('', { headers: { range } });
    assertError(r, 416, 'range_not_satisfiable');
    assert.equal(r.headers['content-range'], `bytes */${n}`);
  }
});

test('conditions', async () => {
  for (const value of [etag, `"x", ${etag}`, '*', `W/${etag}`]) {
    const r = await content('', { headers: { 'if-none-match': value } });
    assert.equal(r.status, 304, value);
    assert.equal(r.raw.length, 0);
    assert.equal(r.headers.etag, etag);
  }
  assert.equal((await content('', { headers: { 'if-none-match': '"sha256-x"' } })).status, 200);
  const both = { range: 'bytes=0-1', 'if-none-match': etag };
  assert.equal((await content('', { headers: both })).status, 304);
  const modified = (await content('', {}, 'HEAD')).headers['last-modified'];
  for (const [value, status] of [
    [etag, 206],
    ['"sha256-x"', 200],
    [`W/${etag}`, 200],
    [modified, 206],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 200],
  ]) {
    const r = await content('', { headers: { range: 'bytes=0-1', 'if-range': value } });
    assert.equal(r.status, status, value);
    assert.equal(r.raw.length, status === 206 ? 2 : file.length);
  }
});

test('HEAD says what GET would', async () => {
  for (const [query, headers] of [
    ['', {}],
    ['?variant=fragmented', {}],
    ['?variant=thumbnail', {}],
    ['?download=1', {}],
    ['?variant=nonsense', {}],
    ['', { 'if-none-match': etag }],
  ]) {
    const get = await content(query, { headers });
    const head = await content(query, { headers }, 'HEAD');
    assert.equal(head.status, get.status, query);
    assert.equal(head.raw.length, 0);
    for (const name of ['date', 'x-request-id']) {
      delete get.headers[name];
      delete head.headers[name];
    }
    assert.deepEqual(head.headers, get.headers, query);
  }
  // Ranges are for GET alone (RFC 9110, 14.2).
  const part = await content('', { headers: { range: 'bytes=0-1' } }, 'HEAD');
  assert.equal(part.status, 200);
  assert.equal(part.headers['content-length'], String(file.length));
});

test('a name for the file, where it is saved', async () => {
  const attachment = `attachment; filename="${v.id}.mp4"`;
  for (const [query, accept, expected] of [
    ['?download=1', '*/*', attachment],
    ['', 'application/binary', attachment],
    ['', 'video/mp4', 'inline'],
    ['?download=0', '*/*', 'inline'],
  ]) {
    const r = await content(query, { headers: { accept } });
    assert.equal(r.status, 200);
    assert.ok(r.headers['content-disposition'].startsWith(expected), r.headers['content-disposition']);
  }
});

test('thumbnail: the first frame, of a type the client takes', async () => {
  for (const [accept, type] of [
    [undefined, 'image/webp'],
    ['*/*', 'image/webp'],
    ['image/*', 'image/webp'],
    ['application/binary', 'image/webp'],
    ['image/avif,image/webp,*/*', 'image/webp'],
    ['image/jpeg', 'image/jpeg'],
    ['image/jpeg, image/png', 'image/jpeg'],
    ['image/webp;q=0, image/jpeg', 'image/jpeg'],
  ]) {
    const r = await content('?variant=thumbnail', { headers: accept ? { accept } : {} });
    assert.equal(r.status, 200);
    assert.equal(r.headers['content-type'], type, String(accept));
    const magic = type === 'image/webp' ? r.raw.toString('latin1', 8, 12) : r.raw.toString('hex', 0, 3);
    assert.equal(magic, type === 'image/webp' ? 'WEBP' : 'ffd8ff');
    assert.match(r.headers.vary ?? '', /accept/i);
    const { width, height, errors } = await probe(r.raw);
    assert.deepEqual([width, height, errors], [64, 64, '']);
  }
});

test('sprite sheet', async () => {
  const r = await content('?variant=spritesheet');
  assert.equal(r.status, 200);
  assert.equal(r.headers['content-type'], 'image/jpeg');
  const layout = /^cols=(\d+);rows=(\d+);w=(\d+);h=(\d+);interval=([\d.]+)$/.exec(r.headers['x-sprite-layout']);
  assert.ok(layout, r.headers['x-sprite-layout']);
  const [cols, rows, w, h, interval] = layout.slice(1).map(Number);
  assert.ok(cols >= 1 && cols <= 5 && rows >= 1 && rows <= 5);
  assert.deepEqual([w, h], [64, 64]);
  assert.ok(interval > 0 && interval * (cols * rows - 1) < 2.0625);
  const { width, height } = await probe(r.raw);
  assert.deepEqual([width, height], [cols * w, rows * h]);
});

test('other variants', async () => {
  for (const variant of ['audio', 'VIDEO', '', '../video', 'video.mp4']) {
    const r = await content(`?variant=${variant}`);
    if (variant === '') {
      assert.ok([200, 400].includes(r.status));
    } else {
      assertError(r, 400, 'unsupported_variant', 'variant');
    }
  }
});

test('no such video', async () => {
  for (const id of ['video_0', 'x', '%2e%2e', 'video_%00', 'a'.repeat(65), '..%2f..%2fetc%2fpasswd']) {
    for (const method of ['GET', 'HEAD']) {
      const r = await d.request(method, `/v1/videos/${id}/content`);
      assert.equal(r.status, 404, id);
    }
    assertError(await d.get(`/v1/videos/${id}/content`), 404, 'video_not_found');
  }
});

test('before the end; after a cancel', async () => {
  await d.ok('POST', '/v1/queue/pause');
  const { id } = await d.create(LONG);
  const target = `/v1/videos/${id}/content`;
  const notReady = async (query) => {
    const r = await d.get(target + query);
    assertError(r, 404, 'video_not_ready');
    assert.ok(Number(r.headers['retry-after']) >= 1, r.headers['retry-after']);
    const poll = Number(r.headers['openai-poll-after-ms']);
    assert.ok(poll >= 250 && poll <= 2000, `${poll}`);
  };
  for (const query of ['', '?variant=fragmented', '?variant=thumbnail', '?variant=spritesheet']) {
    await notReady(query);
  }
  await d.ok('POST', '/v1/queue/resume');
  await d.blocks(id, 2);
  for (const query of ['', '?variant=fragmented', '?variant=spritesheet']) {
    await notReady(query);
  }
  const preview = await d.get(`${target}?variant=thumbnail`);
  assert.equal(preview.status, 200, preview.text);
  assert.match(preview.headers['content-type'], /^image\/(jpeg|webp)$/);
  assert.ok(!/immutable/.test(preview.headers['cache-control']));

  assert.equal((await d.cancel(id)).json.status, 'failed');
  const after = await d.video(id);
  for (const query of ['', '?variant=video', '?stream=true', '?variant=fragmented', '?variant=spritesheet']) {
    assertError(await d.get(target + query), 422, 'video_generation_failed');
  }
  const part = await d.get(`${target}?variant=fragmented&partial=true`);
  assert.equal(part.status, 200);
  const { frames, errors } = await probe(part.raw);
  assert.ok(after.blocks.done >= 2);
  assert.deepEqual([frames, errors], [after.blocks.frames_ready, '']);
});

test('gone from the disk with the video', async () => {
  const { id } = await d.completed();
  const files = () => fs.readdirSync(d.data, { recursive: true }).filter((name) => name.includes(id));
  assert.ok(files().length > 0);
  await d.ok('DELETE', `/v1/videos/${id}`);
  assertError(await d.get(`/v1/videos/${id}/content`), 404, 'video_not_found');
  assert.deepEqual(files(), []);
});
