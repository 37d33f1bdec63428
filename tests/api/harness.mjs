// The daemon as a child process, and small clients for it: what all tests of the API share.
//
//   const d = await Daemon.start({ conf: { 'queue.capacity': '2' } });
//   const video = await d.completed({ num_frames: 5 });
//   await d.stop();
//
// Everything a daemon has lies in a folder of its own below the system's temporary one; stop() removes it and
// sees that no process is left. Nothing here waits for a time, only for a condition, with a deadline.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const BINARY = path.resolve(ROOT, process.env.SANAD ?? 'build/release/sanad');

export const ID = /^video_[0-9a-hjkmnp-tv-z]{26}$/;
// A video that takes as long as a test may need to look at it, about 80 blocks; to be cancelled.
export const LONG = { size: '128x128', seconds: '60', seed: 5 };

// Names and aliases are not those of the family, so that a wrong one shows.
const MODELS = {
  'tiny-long': {
    id: 'tiny-long',
    sizes: [],
    size: '64x64',
    frames: 64,
    fps: 16,
    block_latent_frames: 3,
    aliases: ['tiny'],
  },
  'tiny-480p': {
    id: 'tiny-480p',
    sizes: [],
    size: '64x64',
    frames: 64,
    fps: 16,
    block_latent_frames: 3,
    steps: 4,
  },
};

// ---- waiting ----

// Polls fn until it gives something true. What it gave last is in the error.
export async function until(what, fn, ms = 30000) {
  const deadline = Date.now() + ms;
  let last;
  for (;;) {
    last = await fn();
    if (last) {
      return last;
    }
    assert.ok(Date.now() < deadline, `${what}: not within ${ms} ms`);
    await delay(10);
  }
}

export async function within(what, promise, ms = 30000) {
  const timer = new AbortController();
  const late = delay(ms, undefined, { signal: timer.signal }).then(
    () => assert.fail(`${what}: not within ${ms} ms`),
    () => new Promise(() => {}),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

// ---- processes ----

function processes() {
  const list = [];
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      list.push({ pid: Number(pid), parent: Number(parent), zombie: state === 'Z' });
    } catch {
      // It has ended meanwhile.
    }
  }
  return list;
}

function isAlive(pid) {
  return processes().some((p) => p.pid === pid && !p.zombie);
}

function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (e) {
    assert.equal(e.code, 'ESRCH');
  }
}

// Whatever ends this process: no daemon and no folder stays behind.
const open = new Set();

function clean() {
  for (const d of open) {
    for (const pid of [d.child?.pid, ...d.workers]) {
      if (pid) {
        kill(pid, 'SIGKILL');
      }
    }
    fs.rmSync(d.dir, { recursive: true, force: true, maxRetries: 3 });
  }
  open.clear();
}

process.on('exit', clean);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(1));
}

// ---- files ----

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sanad-files-'));
process.on('exit', () => fs.rmSync(scratch, { recursive: true, force: true }));

export function scratchFile(name, bytes) {
  const file = path.join(scratch, name);
  if (bytes !== undefined) {
    fs.writeFileSync(file, bytes);
  }
  return file;
}

// Runs a program to its end: {status, out, err}.
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const out = [];
    const err = [];
    child.stdout.on('data', (chunk) => out.push(chunk));
    child.stderr.on('data', (chunk) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (status) =>
      resolve({ status, out: Buffer.concat(out), err: Buffer.concat(err).toString() }),
    );
  });
}

// A test picture; the name's ending says which kind.
export function picture(name, size = '64x64', source = 'testsrc') {
  const file = scratchFile(name);
  const made = spawnSync('ffmpeg', [
    ...['-v', 'error', '-y', '-f', 'lavfi', '-i', `${source}=size=${size}:rate=1`],
    ...['-frames:v', '1', file],
  ]);
  assert.equal(made.status, 0, String(made.stderr));
  return file;
}

let probed = 0;

// What ffprobe and ffmpeg find in these bytes; everything is decoded.
export async function probe(bytes) {
  const file = scratchFile(`probe-${probed++}`, bytes);
  const found = await run('ffprobe', [
    ...['-v', 'error', '-count_frames', '-select_streams', 'v', '-of', 'json', '-show_entries'],
    'stream=codec_name,width,height,nb_read_frames,r_frame_rate:format=duration',
    file,
  ]);
  const decoded = await run('ffmpeg', ['-v', 'error', '-i', file, '-f', 'null', '-']);
  fs.rmSync(file);
  assert.equal(found.status, 0, found.err);
  const { streams, format } = JSON.parse(found.out);
  return {
    codec: streams[0].codec_name,
    width: streams[0].width,
    height: streams[0].height,
    frames: Number(streams[0].nb_read_frames),
    rate: streams[0].r_frame_rate,
    duration: Number(format.duration),
    errors: found.err + decoded.err,
  };
}

// The boxes of an MP4 file, one level.
export function boxes(bytes) {
  const list = [];
  for (let at = 0; at < bytes.length; ) {
    assert.ok(at + 8 <= bytes.length, `a box header at ${at} is cut off`);
    const size = bytes.readUInt32BE(at);
    const type = bytes.toString('latin1', at + 4, at + 8);
    assert.ok(size >= 8 && at + size <= bytes.length, `box ${type} at ${at} says ${size} bytes`);
    list.push({ type, start: at, end: at + size });
    at += size;
  }
  return list;
}

export function withoutFree(bytes) {
  return Buffer.concat(
    boxes(bytes)
      .filter((b) => b.type !== 'free')
      .map((b) => bytes.subarray(b.start, b.end)),
  );
}

// ---- HTTP ----

export async function multipart(parts) {
  const form = new FormData();
  for (const [name, value] of Array.isArray(parts) ? parts : Object.entries(parts)) {
    if (value instanceof File) {
      form.append(name, value, value.name);
    } else {
      form.append(name, String(value));
    }
  }
  const response = new Response(form);
  return {
    type: response.headers.get('content-type'),
    body: Buffer.from(await response.arrayBuffer()),
  };
}

const TYPE_OF = { 403: 'permission_error', 429: 'rate_limit_error' };

// What these are about is always the same.
const PARAM_OF = {
  video_not_found: 'video_id',
  video_not_ready: 'video_id',
  video_expired: 'video_id',
  video_generation_failed: 'video_id',
  idempotency_in_progress: 'Idempotency-Key',
  idempotency_key_reused: 'Idempotency-Key',
  range_not_satisfiable: 'Range',
};

// The one shape of errors, and nothing else.
export function assertError(r, status, code, param = PARAM_OF[code] ?? null) {
  assert.equal(r.status, status, r.text);
  assert.match(r.headers['content-type'], /^application\/json(; ?charset=utf-8)?$/i);
  assert.equal(r.headers['cache-control'], 'no-store');
  assert.match(r.headers['x-request-id'], /^[A-Za-z0-9._-]{1,64}$/);
  assert.deepEqual(Object.keys(r.json), ['error']);
  const { message, ...rest } = r.json.error;
  const type = TYPE_OF[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error');
  assert.deepEqual(rest, { type, param, code }, message);
  assert.match(message, /^[^\x00-\x1f\x7f]{8,511}$/);
}

export function hasWarning(video, code, param) {
  return video.warnings.some((w) => w.code === code && (param === undefined || w.param === param));
}

// Server-Sent Events as they come over the wire, nothing interpreted twice.
export class Events {
  constructor(response) {
    this.response = response;
    this.list = [];
    this.comments = 0;
    this.retry = undefined;
    this.ended = false;
    this.wake = () => {};
    this.text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk) => this.#take(chunk));
    response.on('end', () => this.#end());
    response.on('error', () => this.#end());
  }

  #end() {
    this.ended = true;
    this.wake();
  }

  #take(chunk) {
    this.text += chunk;
    for (let at; (at = this.text.indexOf('\n\n')) >= 0; ) {
      this.#block(this.text.slice(0, at));
      this.text = this.text.slice(at + 2);
    }
    this.wake();
  }

  #block(text) {
    const e = {};
    for (const line of text.split('\n')) {
      const [, name, value] = /^([a-z]*): ?(.*)$/.exec(line) ?? assert.fail(`line ${line}`);
      if (name === '') {
        this.comments++;
      } else if (name === 'retry') {
        this.retry = Number(value);
      } else {
        assert.ok(!(name in e), `${name} twice`);
        e[name] = value;
      }
    }
    if (e.data === undefined) {
      return;
    }
    const data = JSON.parse(e.data);
    assert.deepEqual(Object.keys(data).sort(), ['created_at', 'data', 'seq', 'type']);
    assert.equal(data.type, e.event);
    assert.match(e.id, /^\d+$/);
    assert.ok(Number.isInteger(data.created_at));
    this.list.push({ id: Number(e.id), type: e.event, seq: data.seq, data: data.data });
  }

  // The first event that fits; those before it stay in list.
  async find(fits, ms = 30000) {
    let at = 0;
    const look = async () => {
      for (;;) {
        for (; at < this.list.length; at++) {
          if (fits(this.list[at])) {
            return this.list[at];
          }
        }
        assert.ok(!this.ended, `the stream ended with ${this.types()}`);
        await new Promise((resolve) => (this.wake = resolve));
      }
    };
    return within('event', look(), ms);
  }

  async end(ms = 30000) {
    const look = async () => {
      while (!this.ended) {
        await new Promise((resolve) => (this.wake = resolve));
      }
    };
    await within('end of events', look(), ms);
    return this.list;
  }

  types() {
    return this.list.map((e) => e.type);
  }

  close() {
    this.response.destroy();
  }
}

// Bytes out, bytes in: for what no client would send.
export class Raw {
  static async open(port) {
    const socket = net.connect(port, '127.0.0.1');
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new Raw(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.text = '';
    this.closed = false;
    this.wake = () => {};
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => {
      this.text += chunk;
      this.wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  send(text) {
    this.socket.write(text, 'latin1');
    return this;
  }

  async wait(what, fits, ms = 10000) {
    const look = async () => {
      while (!fits()) {
        await new Promise((resolve) => (this.wake = resolve));
      }
    };
    await within(`${what}; so far: ${JSON.stringify(this.text.slice(0, 300))}`, look(), ms);
  }

  // The next response: {status, headers, text, json}; its bytes are taken out.
  async response(ms = 10000) {
    await this.wait('a head', () => this.closed || this.text.includes('\r\n\r\n'), ms);
    const end = this.text.indexOf('\r\n\r\n');
    assert.ok(end >= 0, `closed after ${JSON.stringify(this.text)}`);
    const [line, ...lines] = this.text.slice(0, end).split('\r\n');
    const headers = {};
    for (const h of lines) {
      headers[h.slice(0, h.indexOf(':')).toLowerCase()] = h.slice(h.indexOf(':') + 1).trim();
    }
    const length = Number(headers['content-length'] ?? 0);
    const body = end + 4;
    await this.wait('a body', () => this.closed || this.text.length >= body + length, ms);
    const text = this.text.slice(body, body + length);
    this.text = this.text.slice(body + length);
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(line)?.[1]);
    return { status, headers, text, json: parse(headers, text) };
  }

  async close(ms = 10000) {
    await this.wait('the end of the connection', () => this.closed, ms);
  }

  destroy() {
    this.socket.destroy();
  }
}

function parse(headers, text) {
  if (/^application\/json/.test(headers['content-type'] ?? '') && text !== '') {
    return JSON.parse(text);
  }
  return undefined;
}

// ---- the daemon ----

export class Daemon {
  // keepAlive: may its clients here use a connection twice? Not where the daemon closes idle ones early.
  static async start({ model = 'tiny-long', conf = {}, ready = true, keepAlive = true } = {}) {
    const d = new Daemon();
    d.keepAlive = keepAlive;
    d.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sanad-api-'));
    open.add(d);
    d.data = path.join(d.dir, 'data');
    d.model = path.join(d.dir, 'model');
    d.workers = [];
    fs.mkdirSync(d.model);
    const golden = path.join(ROOT, 'tests/golden', model);
    for (const name of fs.readdirSync(golden)) {
      fs.symlinkSync(path.join(golden, name), path.join(d.model, name));
    }
    fs.writeFileSync(path.join(d.model, 'sanad.json'), JSON.stringify(MODELS[model]));
    d.conf = { drain_timeout: '0s', ...conf };
    await d.launch({ ready });
    return d;
  }

  // Starts it, with the same folder as before.
  async launch({ ready = true } = {}) {
    this.#writeConf();
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('SANAD')),
    );
    const args = ['serve', '--config', path.join(this.dir, 'sanad.conf'), '--listen', '127.0.0.1:0'];
    args.push('--data-dir', this.data, '--model', this.model);
    this.log = '';
    this.child = spawn(BINARY, args, { env, cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'] });
    this.gone = new Promise((resolve) => {
      this.child.once('error', (e) => resolve(String(e)));
      this.child.once('exit', (code, signal) => resolve(signal ?? code));
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        this.log += text;
        if (process.env.SANAD_TEST_LOG) {
          process.stderr.write(text);
        }
      });
    }
    let ended;
    this.gone.then((how) => (ended = how));
    await until('listening', () => {
      assert.equal(ended, undefined, `the daemon ended:\n${this.log}`);
      return /listening\b.*\b127\.0\.0\.1:\d+/.test(this.log);
    });
    this.port = Number(/listening\b.*\b127\.0\.0\.1:(\d+)/.exec(this.log)[1]);
    this.url = `http://127.0.0.1:${this.port}`;
    this.agent = new http.Agent({ keepAlive: this.keepAlive });
    if (ready) {
      await until('ready', async () => (await this.get('/readyz')).status === 200);
    }
    this.workers = this.workerPids();
  }

  #writeConf() {
    const lines = Object.entries(this.conf).map(([key, value]) => `${key} = ${value}\n`);
    fs.writeFileSync(path.join(this.dir, 'sanad.conf'), lines.join(''));
  }

  // New settings while it runs. Whoever calls this waits for the effect.
  reconfigure(conf) {
    Object.assign(this.conf, conf);
    this.#writeConf();
    kill(this.child.pid, 'SIGHUP');
  }

  workerPids() {
    return processes()
      .filter((p) => p.parent === this.child.pid && !p.zombie)
      .map((p) => p.pid);
  }

  // SIGTERM and a clean end: status 0, nobody left.
  async terminate() {
    this.workers = this.workerPids();
    kill(this.child.pid, 'SIGTERM');
    const how = await within('the end after SIGTERM', this.gone, 40000);
    await this.#ended();
    assert.equal(how, 0, `ended with ${how}:\n${this.log.slice(-4000)}`);
  }

  // As by the kernel, without warning. Its workers notice and go.
  async crash() {
    this.workers = this.workerPids();
    kill(this.child.pid, 'SIGKILL');
    await this.gone;
    await this.#ended();
  }

  async #ended() {
    this.child = undefined;
    this.agent.destroy();
    await until('the end of the workers', () => !this.workers.some(isAlive), 10000);
    this.workers = [];
  }

  async stop() {
    try {
      if (this.child) {
        await this.terminate();
      }
    } finally {
      for (const pid of [this.child?.pid, ...this.workers]) {
        if (pid) {
          kill(pid, 'SIGKILL');
        }
      }
      fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
      open.delete(this);
    }
  }

  // ---- requests ----

  // The response, its body not read yet.
  open(method, target, { headers = {}, body } = {}) {
    return new Promise((resolve, reject) => {
      // Not as a URL: that would be tidied up.
      const where = { host: '127.0.0.1', port: this.port, path: target };
      const req = http.request({ ...where, method, agent: this.agent, headers });
      req.on('response', resolve);
      req.on('error', reject);
      req.end(body);
    });
  }

  // {status, headers, raw, text, json}. json, form (multipart) or urlencoded: the body.
  async request(method, target, { json, form, urlencoded, ...options } = {}) {
    const headers = { ...options.headers };
    let { body } = options;
    if (json !== undefined) {
      headers['content-type'] ??= 'application/json';
      body = JSON.stringify(json);
    } else if (form) {
      const made = await multipart(form);
      headers['content-type'] ??= made.type;
      body = made.body;
    } else if (urlencoded) {
      headers['content-type'] ??= 'application/x-www-form-urlencoded';
      body = new URLSearchParams(urlencoded).toString();
    }
    if (body !== undefined) {
      headers['content-length'] ??= Buffer.byteLength(body);
    }
    const response = await within(`${method} ${target}`, this.open(method, target, { headers, body }), 90000);
    const chunks = [];
    for await (const chunk of response) {
      chunks.push(chunk);
    }
    const raw = Buffer.concat(chunks);
    const text = raw.toString();
    return {
      status: response.statusCode,
      headers: response.headers,
      raw,
      text: /^(video|image)\//.test(response.headers['content-type'] ?? '') ? '(binary)' : text,
      json: parse(response.headers, text),
    };
  }

  get(target, options) {
    return this.request('GET', target, options);
  }

  post(target, json, options) {
    return this.request('POST', target, { json, ...options });
  }

  delete(target, options) {
    return this.request('DELETE', target, options);
  }

  // The object, or a failed test.
  async ok(method, target, options) {
    const r = await this.request(method, target, options);
    assert.equal(r.status, 200, `${method} ${target}: ${r.text}`);
    return r.json;
  }

  create(fields = {}, headers = {}) {
    return this.ok('POST', '/v1/videos', {
      json: { prompt: 'A calico cat', size: '64x64', num_frames: 5, seed: 1, ...unsized(fields) },
      headers,
    });
  }

  video(id) {
    return this.ok('GET', `/v1/videos/${id}`);
  }

  // Looked at by the worker: until then details of a job that waits may still be told.
  prepared(id) {
    return until(`details of ${id}`, async () => {
      const v = await this.video(id);
      return v.native_size !== null && v;
    });
  }

  // Waits for the end of a job, whatever it is.
  over(id, ms = 60000) {
    return until(
      `end of ${id}`,
      async () => {
        const v = await this.video(id);
        return (v.status === 'completed' || v.status === 'failed') && v;
      },
      ms,
    );
  }

  running(id) {
    return until(`start of ${id}`, async () => {
      const v = await this.video(id);
      assert.ok(['queued', 'in_progress'].includes(v.status), `${v.status} before it was seen to run`);
      return v.status === 'in_progress' && v;
    });
  }

  // Running, and n blocks of it are there.
  blocks(id, n) {
    return until(`block ${n} of ${id}`, async () => {
      const v = await this.video(id);
      assert.ok(['queued', 'in_progress'].includes(v.status), `${v.status} before block ${n}`);
      return v.blocks?.done >= n && v;
    });
  }

  async completed(fields, headers) {
    const v = await this.over((await this.create(fields, headers)).id);
    assert.equal(v.status, 'completed', JSON.stringify(v.error));
    return v;
  }

  // As it was at the beginning: nothing runs, waits or is paused. Between tests, so that one that failed does
  // not take others along.
  async calm() {
    if (!this.child) {
      return;
    }
    await this.ok('POST', '/v1/queue/resume');
    for (const status of ['queued', 'in_progress']) {
      const { data } = await this.ok('GET', `/v1/videos?limit=100&status=${status}`);
      await Promise.all(data.map((v) => this.cancel(v.id)));
    }
    await until('an idle queue', async () => {
      const q = await this.ok('GET', '/v1/queue');
      return q.queued === 0 && q.running.length === 0;
    });
  }

  cancel(id) {
    return this.request('POST', `/v1/videos/${id}/cancel`);
  }

  async events(target, headers = {}) {
    const response = await this.open('GET', target, { headers });
    assert.equal(response.statusCode, 200);
    return new Events(response);
  }

  // The finished file's name for its bytes.
  async etag(id) {
    const r = await this.request('HEAD', `/v1/videos/${id}/content`);
    assert.equal(r.status, 200);
    assert.match(r.headers.etag, /^"sha256-[0-9a-f]{64}"$/);
    return r.headers.etag;
  }
}

// Whoever gives seconds does not mean the 5 frames of create() as well.
function unsized(fields) {
  return 'seconds' in fields && !('num_frames' in fields)
    ? { num_frames: undefined, ...fields }
    : fields;
}
