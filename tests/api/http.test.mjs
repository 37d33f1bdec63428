// HTTP itself: what a sound client may do, what a broken or hostile one is told, and that neither holds up
// the others.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { Daemon, ID, Raw, assertError, multipart, run, scratchFile, until } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start({
    keepAlive: false,
    conf: {
      'limits.json_body': '64KiB',
      'limits.multipart_body': '256KiB',
      'limits.upload': '128KiB',
      'http.head_timeout': '2s',
      'http.body_window': '2s',
      'http.idle_timeout': '5s',
    },
  });
  await d.ok('POST', '/v1/queue/pause');
});
after(() => d?.stop());

const JOB = JSON.stringify({ prompt: 'x', size: '64x64', num_frames: 1 });
const POST = `POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
const GET = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';

const total = async () => (await d.ok('GET', '/v1/videos?limit=100')).data.length;

// An answer, then the end of the connection; nothing of the rest was taken for another request.
async function refusedAndClosed(text, statuses) {
  const raw = await Raw.open(d.port);
  try {
    raw.send(text);
    const r = await raw.response();
    assert.ok(statuses.includes(r.status), `${r.status} for ${JSON.stringify(text.slice(0, 200))}`);
    await raw.close();
    assert.ok(!/HTTP\/1\.1 2/.test(raw.text), `two answers to ${JSON.stringify(text.slice(0, 200))}`);
    return { ...r, rest: raw.text };
  } finally {
    raw.destroy();
  }
}

test('requests that proxies could read otherwise', async () => {
  const before = await total();
  const length = `Content-Length: ${JOB.length}\r\n`;
  const chunked = 'Transfer-Encoding: chunked\r\n';
  for (const text of [
    `${POST}${length}${chunked}\r\n0\r\n\r\n${GET}`,
    `${POST}${chunked}${length}\r\n0\r\n\r\n${GET}`,
    `${POST}${length}Content-Length: 5\r\n\r\n${JOB}${GET}`,
    `${POST}Content-Length: +${JOB.length}\r\n\r\n${JOB}${GET}`,
    `${POST}Content-Length: -1\r\n\r\n${JOB}${GET}`,
    `${POST}Content-Length: 0x10\r\n\r\n${JOB}${GET}`,
    `${POST}Content-Length: 99999999999999999999\r\n\r\n${JOB}${GET}`,
    `${POST}Transfer-Encoding: xchunked\r\n\r\n${JOB}${GET}`,
    `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${GET}`,
    `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${GET}`,
    `${POST}${chunked}${chunked}\r\n0\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\nHost: localhost\n\n${GET}`,
    `GET /healthz HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n${GET}`,
    `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n${GET}`,
  ]) {
    await refusedAndClosed(text, [400, 413, 501]);
  }
  assert.equal(await total(), before);
});

test('a Content-Length twice, even the same', async () => {
  const before = await total();
  const length = `Content-Length: ${JOB.length}\r\n`;
  const list = `Content-Length: ${JOB.length}, ${JOB.length}\r\n`;
  for (const lines of [list, length + length]) {
    await refusedAndClosed(`${POST}${lines}\r\n${JOB}${GET}`, [400]);
  }
  assert.equal(await total(), before);
});

test('what is no HTTP', async () => {
  for (const text of ['\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', 'hello\r\n\r\n', `${'x'.repeat(20000)}\r\n\r\n`, 'GET\r\n\r\n']) {
    const raw = await Raw.open(d.port);
    raw.send(text);
    await raw.close();
    assert.match(raw.text, /^$|^HTTP\/1\.[01] 4\d\d /);
  }
  assert.equal((await d.get('/healthz')).status, 200);
});

test('several requests in one packet, and in single bytes', async () => {
  const raw = await Raw.open(d.port);
  raw.send(GET + GET.replace('/healthz', '/v1/nothing') + GET);
  assert.deepEqual(
    [(await raw.response()).status, (await raw.response()).status, (await raw.response()).status],
    [200, 404, 200],
  );
  for (const byte of GET) {
    raw.send(byte);
  }
  assert.equal((await raw.response()).status, 200);
  raw.destroy();
});

test('a body in pieces, also through chunked coding', async () => {
  const raw = await Raw.open(d.port);
  raw.send(`${POST}Transfer-Encoding: chunked\r\n\r\n`);
  for (const piece of [JOB.slice(0, 1), JOB.slice(1, 10), JOB.slice(10)]) {
    raw.send(`${piece.length.toString(16)};x=y\r\n`);
    raw.send(`${piece}\r\n`);
  }
  raw.send('0\r\nX-Trailer: y\r\n\r\n');
  const r = await raw.response();
  assert.equal(r.status, 200, r.text);
  assert.match(r.json.id, ID);
  raw.send(GET);
  assert.equal((await raw.response()).status, 200);
  raw.send(`${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n`);
  await raw.close();
  assert.ok(!raw.text.includes('200 OK'));
});

test('Expect: 100-continue', async () => {
  const raw = await Raw.open(d.port);
  raw.send(`${POST}Content-Length: ${JOB.length}\r\nExpect: 100-continue\r\n\r\n`);
  await raw.wait('100', () => raw.text.includes('\r\n\r\n'));
  assert.match(raw.text, /^HTTP\/1\.1 100 /);
  raw.text = '';
  raw.send(JOB);
  assert.equal((await raw.response()).status, 200);
  raw.destroy();

  const file = scratchFile('expect.json', JOB.replace('"x"', `"${'x '.repeat(10000)}"`));
  const { status, out } = await run('curl', [
    ...['-sS', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'Expect: 100-continue'],
    ...['-H', 'Content-Type: application/json', '--data-binary', `@${file}`, `${d.url}/v1/videos`],
  ]);
  assert.deepEqual([status, String(out)], [0, '200']);
});

test('a body that is too large: its 413 arrives', async () => {
  const before = await total();
  const file = scratchFile('large.png', Buffer.alloc(4 << 20, 1));
  const { status, out, err } = await run('curl', [
    ...['-sS', '-w', '\\n%{http_code}', '-F', 'prompt=x', '-F', `input_reference=@${file}`, `${d.url}/v1/videos`],
  ]);
  const [body, code] = String(out).split('\n');
  assert.deepEqual([status, code], [0, '413'], err);
  assert.equal(JSON.parse(body).error.code, 'payload_too_large');

  const json = JSON.stringify({ prompt: 'x'.repeat(1 << 20) });
  assertError(
    await d.request('POST', '/v1/videos', { body: json, headers: { 'content-type': 'application/json' } }),
    413,
    'payload_too_large',
  );
  const chunked = await fetch(`${d.url}/v1/videos`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: new ReadableStream({
      start(c) {
        for (let i = 0; i < 16; i++) {
          c.enqueue(Buffer.alloc(64 << 10, 'x'));
        }
        c.close();
      },
    }),
    duplex: 'half',
  });
  assert.equal(chunked.status, 413);
  assert.equal((await chunked.json()).error.code, 'payload_too_large');

  const { type, body: parts } = await multipart({
    prompt: 'x',
    input_reference: new File([Buffer.alloc(200 << 10)], 'a.png'),
  });
  assertError(
    await d.request('POST', '/v1/videos', { body: parts, headers: { 'content-type': type } }),
    413,
    'payload_too_large',
    'input_reference',
  );
  assert.equal(await total(), before);
});

test('an address that is too long', async () => {
  const long = await refusedAndClosed(`GET /v1/videos?user=${'u'.repeat(5000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, [414]);
  assertError(long, 414, 'uri_too_long');
  assert.equal(long.headers.connection?.toLowerCase(), 'close');
  const fits = await d.get(`/v1/videos?user=${'u'.repeat(4000)}`);
  assert.equal(fits.status, 200);
});

const LARGE_HEAD = `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ${'a'.repeat(20000)}\r\n\r\n`;

test('requests that proxies might understand differently are refused in the one shape', async () => {
  for (const text of [
    `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'GET /healthz HTTP/1.1\r\n\r\n',
  ]) {
    const r = await refusedAndClosed(text, [400]);
    assertError(r, 400, 'invalid_value');
    assert.equal(r.rest, '');
  }
});

// What libmicrohttpd itself cannot parse never reaches the API: its own page (HTML), and the connection is closed.
test('what never becomes a request is refused and closed', async () => {
  for (const text of [
    `${POST}Content-Length: x\r\n\r\n`,
    `${POST}Content-Length: +5\r\n\r\n12345`,
    `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
  ]) {
    await refusedAndClosed(text, [400]);
  }
});

test('foreign names and foreign pages are refused', async () => {
  const ask = async (method, headers) => {
    const raw = await Raw.open(d.port);
    const lines = Object.entries({ Host: 'localhost', ...headers }).map(([k, v]) => `${k}: ${v}\r\n`);
    raw.send(`${method} /v1/queue${method === 'POST' ? '/resume' : ''} HTTP/1.1\r\n${lines.join('')}Content-Length: 0\r\n\r\n`);
    const r = await raw.response();
    raw.destroy();
    return r;
  };
  assertError(await ask('GET', { Host: 'evil.example' }), 403, 'origin_not_allowed', 'Host');
  assertError(await ask('POST', { Origin: 'http://evil.example' }), 403, 'origin_not_allowed', 'Origin');
  assertError(await ask('POST', { Origin: 'null' }), 403, 'origin_not_allowed', 'Origin');
  assert.equal((await ask('GET', { Origin: 'http://evil.example' })).status, 200); // a browser keeps the answer
  assert.equal((await ask('POST', { Origin: 'http://localhost:3000' })).status, 200);
  assert.equal((await ask('GET', { Host: '127.0.0.1:1' })).status, 200);
  assert.equal((await ask('GET', { Host: '[::1]:7262' })).status, 200);
});

test('every head up to 16 KiB is answered, longer ones are refused', async () => {
  for (let size = 7000; size <= 20000; size += 250) {
    const raw = await Raw.open(d.port);
    raw.send(`GET /v1/models HTTP/1.1\r\nHost: localhost\r\nCookie: ${'c'.repeat(size)}\r\n\r\n`);
    const r = await raw.response();
    if (size <= 16000) {
      assert.equal(r.status, 200, `${size} bytes`);
    } else if (size >= 16400) {
      assertError(r, 431, 'headers_too_large');
    }
    raw.destroy();
  }
});

test('heads that are too large', async () => {
  await refusedAndClosed(LARGE_HEAD, [431]);
  const many = Array.from({ length: 2000 }, (_, i) => `X-${i}: abcdef\r\n`).join('');
  await refusedAndClosed(`GET /healthz HTTP/1.1\r\nHost: localhost\r\n${many}\r\n`, [431]);
  const raw = await Raw.open(d.port);
  raw.send(`GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ${'a'.repeat(8000)}\r\n\r\n`);
  assert.equal((await raw.response()).status, 200);
  raw.destroy();
});

test('a head that does not end, a body that does not come', async () => {
  const silent = await Raw.open(d.port);
  const head = await Raw.open(d.port);
  head.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
  const body = await Raw.open(d.port);
  body.send(`${POST}Content-Length: 1000\r\n\r\n{"prompt"`);
  const drip = await Raw.open(d.port);
  const dripping = setInterval(() => drip.send('X'), 100);
  drip.send('GET /healthz HTTP/1.1\r\nX-A: ');
  try {
    assert.equal((await d.get('/healthz')).status, 200);
    await head.close(15000);
    assert.match(head.text, /^$|^HTTP\/1\.1 408 /);
    await drip.close(15000);
    await silent.close(15000);
    const r = await body.response(15000);
    assert.equal(r.status, 408);
    assert.equal(r.json.error.code, 'request_timeout');
    await body.close();
  } finally {
    clearInterval(dripping);
    [silent, head, body, drip].forEach((raw) => raw.destroy());
  }
});

test('a client that goes in the middle leaves nothing', async () => {
  const before = await total();
  const { type, body } = await multipart({
    prompt: 'x',
    input_reference: new File([Buffer.alloc(100 << 10)], 'a.png'),
  });
  const files = () => fs.readdirSync(d.data, { recursive: true }).length;
  const there = files();
  for (let i = 0; i < 10; i++) {
    const raw = await Raw.open(d.port);
    raw.send(
      `POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    raw.send(body.subarray(0, 50000 + i * 1000).toString('latin1'));
    await until('the bytes', () => raw.socket.writableLength === 0);
    raw.socket.resetAndDestroy();
  }
  await until('nothing left', () => files() <= there);
  assert.equal(await total(), before);
});

test('request ids', async () => {
  const own = await d.get('/healthz');
  assert.match(own.headers['x-request-id'], /^req_[A-Za-z0-9._-]+$/);
  assert.notEqual((await d.get('/healthz')).headers['x-request-id'], own.headers['x-request-id']);
  for (const [sent, echoed] of [
    ['trace-1.2_3', true],
    ['x'.repeat(64), true],
    ['x'.repeat(65), false],
    ['a b', false],
    ['a"b', false],
    ['<script>', false],
  ]) {
    const r = await d.get('/v1/nothing', { headers: { 'x-request-id': sent } });
    assert.equal(r.headers['x-request-id'] === sent, echoed, sent);
    assert.ok(r.headers['x-request-id']);
  }
});

test('every answer says what it is', async () => {
  for (const target of ['/healthz', '/v1/videos', '/v1/nothing', '/v1/models', '/version']) {
    const { headers } = await d.get(target);
    assert.equal(headers['x-content-type-options'], 'nosniff', target);
    assert.match(headers['content-type'], /^application\/json/);
    assert.equal(headers['cache-control'], 'no-store', target);
    assert.ok(Math.abs(Date.parse(headers.date) - Date.now()) < 60000);
  }
});

test('methods: what is allowed is told', async () => {
  const { id } = await d.create();
  for (const [target, allowed] of [
    ['/healthz', ['GET', 'HEAD']],
    ['/readyz', ['GET', 'HEAD']],
    ['/version', ['GET', 'HEAD']],
    ['/v1/videos', ['GET', 'HEAD', 'POST']],
    [`/v1/videos/${id}`, ['GET', 'HEAD', 'POST', 'DELETE']],
    [`/v1/videos/${id}/content`, ['GET', 'HEAD']],
    [`/v1/videos/${id}/stream`, ['GET', 'HEAD']],
    [`/v1/videos/${id}/events`, ['GET', 'HEAD']],
    [`/v1/videos/${id}/cancel`, ['POST']],
    ['/v1/videos/cancel', ['POST']],
    ['/v1/videos/stream', ['POST']],
    ['/v1/events', ['GET', 'HEAD']],
    ['/v1/queue', ['GET', 'HEAD']],
    ['/v1/queue/pause', ['POST']],
    ['/v1/models', ['GET', 'HEAD']],
    ['/v1/models/tiny-long', ['GET', 'HEAD']],
  ]) {
    for (const method of ['PUT', 'PATCH', 'GET', 'POST', 'DELETE', 'QUUX']) {
      if (allowed.includes(method)) {
        continue;
      }
      const raw = await Raw.open(d.port);
      raw.send(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`);
      const r = await raw.response();
      raw.destroy();
      assertError(r, 405, 'method_not_allowed');
      const allow = r.headers.allow.split(/, */).filter((name) => name !== 'OPTIONS');
      assert.deepEqual(allow.sort(), [...allowed].sort(), `${method} ${target}`);
    }
  }
});

test('addresses', async () => {
  const { id } = await d.create();
  for (const target of ['/healthz/', '/v1/videos/', `/v1/videos/${id}/`, '/v1/models/', '/v1/queue/']) {
    assert.equal((await d.get(target)).status, 200, target);
  }
  assert.equal((await d.get(`/v1/videos/${id.replace('v', '%76')}`)).status, 200);
  for (const target of ['/', '/v1', '/v2/videos', '/v1/video', '/v1/videos/a/b/c', '/v1/../healthz/x', '//']) {
    const r = await d.get(target);
    if (target !== '/') {
      assertError(r, 404, 'unknown_url');
    }
  }
  for (const name of ['%2e%2e', 'a%2fb', '%00', '%zz', '%', 'a%20b', 'ü', 'a'.repeat(65)]) {
    const r = await d.get(`/v1/videos/${encodeURI(name).replace(/%25/g, '%')}`);
    assertError(r, 404, 'video_not_found');
  }
});

test('HEAD wherever GET', async () => {
  const { id } = await d.create();
  for (const target of ['/healthz', '/readyz', '/version', '/v1/videos', `/v1/videos/${id}`, '/v1/queue', '/v1/models']) {
    const raw = await Raw.open(d.port);
    raw.send(`HEAD ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n${GET}`);
    await raw.wait('two answers', () => raw.text.includes('{"status":"ok"}'));
    const [head, rest] = raw.text.split('\r\n\r\n', 2);
    assert.match(head, /^HTTP\/1\.1 200 /, target);
    assert.match(rest, /^HTTP\/1\.1 200 /, `HEAD ${target} has a body`);
    raw.destroy();
  }
  for (const target of [`/v1/videos/${id}/events`, '/v1/events']) {
    const r = await d.request('HEAD', target);
    assert.equal(r.status, 200, target);
    assert.match(r.headers['content-type'], /^text\/event-stream/);
  }
});

test('HTTP/1.0', async () => {
  const raw = await Raw.open(d.port);
  raw.send('GET /healthz HTTP/1.0\r\n\r\n');
  await raw.close();
  assert.match(raw.text, /^HTTP\/1\.[01] 200 /);
  assert.ok(raw.text.endsWith('{"status":"ok"}'));
});

test('five hundred connections at once', async () => {
  const raws = await Promise.all(Array.from({ length: 500 }, () => Raw.open(d.port)));
  raws.forEach((raw) => raw.send(GET));
  for (const raw of raws) {
    assert.equal((await raw.response()).status, 200);
  }
  raws.forEach((raw) => raw.destroy());
});
