// A daemon that can be killed and comes back, and clients that outlive it: what the tests of this folder share.
//
//   const lab = new Lab();
//   const d = new Daemon(lab, { kind: 'causal', args: ['--worker-max-deaths', '100'] });
//   await d.start(); await d.kill(); await d.start(); await d.stop(); await lab.close();
//
// Nothing waits for a time, only for a condition, with a deadline. Only processes that were started here are
// killed, by their ids.
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';

export { delay };

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const BINARY = path.resolve(ROOT, process.env.SANAD ?? 'build/release/sanad');
const JSON_TYPE = { 'content-type': 'application/json' };

export const MODELS = { causal: 'tiny-long', bidirectional: 'tiny-480p' };
const DEFAULTS = {
  sizes: [],
  size: '64x64',
  frames: 33,
  fps: 16,
  block_latent_frames: 3,
  aliases: ['tiny'],
};

// ---- small things ----

// --name value; all values are numbers.
export function options(defaults) {
  const ret = { ...defaults };
  const argv = process.argv.slice(2);

  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].replace(/^--/, '').replaceAll('-', '_');
    const value = Number(argv[i + 1]);

    if (!(name in defaults) || !argv[i].startsWith('--') || !Number.isFinite(value)) {
      console.error(`usage: [${Object.keys(defaults).map((k) => `--${k.replaceAll('_', '-')} N`).join('] [')}]`);
      process.exit(2);
    }
    ret[name] = value;
  }
  return ret;
}

// A generator in [0, 1) that gives the same numbers for the same seed (mulberry32).
export function random(seed) {
  let a = seed >>> 0;

  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;

  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Polls fn until it gives something true; throws when the time is over.
export async function until(what, fn, ms = 30000, step = 10) {
  const deadline = Date.now() + ms;

  for (;;) {
    const value = await fn();

    if (value) {
      return value;
    }
    if (Date.now() >= deadline) {
      throw new Error(`${what}: not within ${ms} ms`);
    }
    await delay(step);
  }
}

// "ok NAME" and "FAIL NAME" lines, and the sum at the end.
export class Report {
  constructor() {
    this.passed = 0;
    this.failed = 0;
  }

  // problems: sentences; none is good.
  tell(name, problems = []) {
    if (problems.length === 0) {
      this.passed++;
      console.log(`ok ${name}`);
      return;
    }
    this.failed++;
    console.log(`FAIL ${name} (${problems.length})`);
    for (const p of problems.slice(0, 20)) {
      console.log(`    ${p}`);
    }
  }

  // Runs fn, which returns its problems; what it throws is one.
  async run(name, fn) {
    let problems;

    try {
      problems = (await fn()) ?? [];
    } catch (e) {
      problems = [e.stack];
    }
    this.tell(name, problems);
  }

  end() {
    console.log(`${this.passed} passed, ${this.failed} failed, 0 skipped`);
    process.exitCode = this.failed ? 1 : 0;
  }
}

// Is it there, and not only waiting to be buried?
export function alive(pid) {
  try {
    return !/^\d+ \(.*\) Z/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}

// ---- a place for everything that was made ----

export class Lab {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sanad-crash-'));
    this.daemons = [];
    process.on('exit', () => this.remove());
    for (const signal of ['SIGINT', 'SIGTERM']) {
      process.on(signal, () => process.exit(1));
    }
  }

  // A directory with links to a model of the golden set, and defaults of its own.
  model(kind) {
    const dir = path.join(this.dir, `model-${kind}`);
    const from = path.join(ROOT, 'tests/golden', MODELS[kind]);

    if (!fs.existsSync(dir)) {
      fs.mkdirSync(dir);
      for (const name of fs.readdirSync(from)) {
        fs.symlinkSync(path.join(from, name), path.join(dir, name));
      }
      fs.writeFileSync(path.join(dir, 'sanad.json'), JSON.stringify(DEFAULTS));
    }
    return dir;
  }

  remove() {
    for (const d of this.daemons) {
      if (d.child && d.child.exitCode === null && d.child.signalCode === null) {
        kill(d.child.pid);
      }
      for (const pid of d.workers) {
        if (alive(pid) && d.isOurs(pid)) {
          kill(pid);
        }
      }
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

// ---- the daemon ----

export class Daemon {
  constructor(lab, { kind = 'causal', args = [], env = {}, name = `data-${lab.daemons.length}` } = {}) {
    this.lab = lab;
    this.kind = kind;
    this.args = args;
    this.env = env; // besides the little that every daemon gets
    this.dir = path.join(lab.dir, name);
    this.lives = 0; // starts
    this.deaths = 0; // grows before the signal is sent
    this.workers = new Set(); // pids of all lives
    this.log = []; // lines of this life
    this.history = []; // of all lives
    this.errors = []; // lines of all lives that say err, and what else should not be
    this.listeners = new Set();
    this.port = 0;
    this.child = null;
    this.fallen = ''; // it ended though nobody killed it: how, and its last words; nobody waits for it any more
    lab.daemons.push(this);
  }

  isOurs(pid) {
    try {
      return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(`${BINARY}\0`);
    } catch {
      return false;
    }
  }

  spawn() {
    this.lives++;
    this.log = [];
    this.port = 0;
    this.child = spawn(
      BINARY,
      ['serve', '--listen', '127.0.0.1:0', '--data-dir', this.dir, '--model', this.lab.model(this.kind), ...this.args],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH, HOME: this.lab.dir, ...this.env } },
    );
    const child = this.child;
    let rest = '';

    this.gone = new Promise((resolve) => {
      child.once('error', (e) => {
        this.fall(`cannot be started: ${e.message}`);
        resolve(e.code);
      });
      child.once('exit', (code, signal) => {
        if (this.dying !== child) {
          this.fall(`${this.port ? 'died by itself' : 'ended at its start'}: ${signal ?? `exit status ${code}`}`);
        }
        resolve(signal ?? code);
      });
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');

      rest = lines.pop();
      for (const line of lines) {
        this.read(line, child);
      }
    });
  }

  // Said at once: what follows from it is told much later, and is not the reason.
  fall(how) {
    const what = `the daemon ${how} (life ${this.lives} of ${path.basename(this.dir)})`;

    console.log(`!! ${what}; its last words:`);
    this.log.slice(-10).forEach((line) => console.log(`    ${line}`));
    this.fallen ||= `${what}; ${this.log.slice(-3).join(' | ')}`;
    this.errors.push(this.fallen);
    this.farewell();
  }

  // A child that is replaced may still be heard.
  read(line, child) {
    let m;

    this.history.push(line);
    if (child === this.child) {
      this.log.push(line);
    }
    if ((m = / listening address=127\.0\.0\.1:(\d+)/.exec(line))) {
      if (child === this.child && child !== this.dying) {
        this.port = Number(m[1]);
      }
    } else if ((m = / worker ready pid=(\d+)/.exec(line))) {
      this.workers.add(Number(m[1]));
    } else if (/ error |Sanitizer|runtime error|^bug: /.test(line)) {
      this.errors.push(line);
    }
    for (const fn of this.listeners) {
      fn(line);
    }
  }

  // Until it listens; with `ready` until a worker is ready, too.
  async start(ready = true) {
    this.spawn();
    const listens = () => this.port > 0 && (!ready || this.log.some((l) => l.includes(' worker ready ')));

    await until('the daemon listens', () => this.fallen || listens()).catch((e) => {
      throw new Error(`${e.message}; ${this.log.slice(-3).join(' | ')}`);
    });
    if (this.fallen) {
      throw new Error(this.fallen);
    }
  }

  note(what) {
    this.history.push(`${new Date().toISOString()} ---- ${what} (life ${this.lives})`);
  }

  // What the daemon said about a job, for those who wonder.
  story(id) {
    return this.history.filter((l) => l.includes(id)).slice(-25);
  }

  // The process that is a worker now, whether it is ready or not; 0: none.
  worker() {
    const pid = this.child?.pid;

    if (!pid || this.child.exitCode !== null || this.child.signalCode !== null) {
      return 0;
    }
    try {
      const text = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
      const child = Number(text.split(' ')[0]);

      if (child) {
        this.workers.add(child);
      }
      return child && alive(child) ? child : 0;
    } catch {
      return 0;
    }
  }

  // From now on it is no wonder that connections are cut.
  farewell() {
    this.deaths++;
    this.port = 0;
    this.dying = this.child;
    this.note('end');
  }

  // Its connections end a moment before its own end is known.
  async settle() {
    await Promise.race([this.gone, delay(200)]);
  }

  killWorker() {
    const pid = this.worker();

    return pid > 0 && kill(pid);
  }

  async kill() {
    this.worker();
    this.farewell();
    this.child.kill('SIGKILL');
    const how = await this.gone;

    if (how !== 'SIGKILL' && !this.fallen) {
      this.fall(`was about to be killed, but had ended by itself: ${how}`);
    }
  }

  // In good order: everything is drained.
  async stop() {
    this.worker();
    this.farewell();
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => kill(this.child.pid), 60000);
    const how = await this.gone;

    clearTimeout(timer);
    return how;
  }

  // The workers of all lives that are still there.
  survivors() {
    return [...this.workers].filter((pid) => alive(pid) && this.isOurs(pid));
  }

  fds() {
    return fs.readdirSync(`/proc/${this.child.pid}/fd`).length;
  }

  memory() {
    const text = fs.readFileSync(`/proc/${this.child.pid}/status`, 'latin1');
    const mib = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)[1]) / 1024;

    return { rss: mib('VmRSS'), peak: mib('VmHWM') };
  }

  // ---- requests ----

  // {status, headers, body}; throws if the connection fails.
  request(method, target, { body, headers = {}, ms = 30000 } = {}) {
    return new Promise((resolve, reject) => {
      if (!this.port) {
        reject(new Error(this.fallen || 'the daemon is not there'));
        return;
      }
      const req = http.request(
        { host: '127.0.0.1', port: this.port, method, path: target, headers, agent: false },
        (res) => {
          const chunks = [];

          res.on('data', (c) => chunks.push(c));
          res.on('error', reject);
          res.on('close', () => {
            if (!res.complete) {
              reject(new Error(`${method} ${target}: the response was cut`));
              return;
            }
            resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks) });
          });
        },
      );
      req.setTimeout(ms, () => req.destroy(new Error(`${method} ${target}: no answer within ${ms} ms`)));
      req.on('error', reject);
      req.end(body);
    });
  }

  async json(method, target, value, headers = {}) {
    const body = value === undefined ? undefined : JSON.stringify(value);
    const r = await this.request(method, target, { body, headers: body ? { ...JSON_TYPE, ...headers } : headers });

    return { ...r, json: r.body.length ? JSON.parse(r.body) : null };
  }

  // Like json, again and again over the daemon's deaths; an answer of a living one that cannot be had is an error.
  async insist(method, target, value, headers = {}, ms = 60000) {
    const deadline = Date.now() + ms;
    let cut = false; // an earlier try may have been done without an answer

    for (;;) {
      const deaths = this.deaths;

      try {
        if (value instanceof Buffer) {
          const r = await this.request(method, target, { body: value, headers });
          return { ...r, json: JSON.parse(r.body), cut };
        }
        return { ...(await this.json(method, target, value, headers)), cut };
      } catch (e) {
        cut ||= this.port > 0 || !/not there|ECONNREFUSED/.test(e.message);
        if (deaths === this.deaths && this.port) {
          await this.settle();
        }
        if (this.fallen || (deaths === this.deaths && this.port)) {
          throw new Error(`${method} ${target}: ${this.fallen || e.message}`);
        }
        if (Date.now() > deadline) {
          throw new Error(`${method} ${target}: ${e.message}; not within ${ms} ms`);
        }
        await delay(5);
      }
    }
  }

  async create(fields, headers = {}) {
    const r = await this.insist('POST', '/v1/videos', fields, headers);

    if (r.status !== 200) {
      throw new Error(`POST /v1/videos: ${r.status} ${r.body}`);
    }
    return r.json;
  }

  async get(id) {
    return this.insist('GET', `/v1/videos/${id}`);
  }

  // The object of a job that is over.
  async ended(id, ms = 60000) {
    return until(
      `${id} is over`,
      async () => {
        const { json } = await this.get(id);

        return json.status === 'completed' || json.status === 'failed' ? json : null;
      },
      ms,
    );
  }

  async list() {
    const ret = [];
    let after = '';

    for (;;) {
      const { json } = await this.insist('GET', `/v1/videos?limit=100&order=asc${after}`);

      ret.push(...json.data);
      if (!json.has_more) {
        return ret;
      }
      after = `&after=${json.last_id}`;
    }
  }

  folders() {
    return fs.readdirSync(path.join(this.dir, 'videos'));
  }
}

// ---- readers that come back ----

// One video, followed from its start. Ends with `bytes`, or with `refused` (a status), or with problems.
export class StreamReader {
  constructor(daemon, id) {
    this.daemon = daemon;
    this.id = id;
    this.partials = []; // what came before the daemon was killed
    this.problems = [];
    this.bytes = null;
    this.refused = 0;
    this.wanted = true; // false: the job is to end early, a cut is right
    this.attempts = 0;
    this.done = this.run();
  }

  async run() {
    const deadline = Date.now() + 600000;

    const wanting = () => !this.bytes && !this.refused && this.problems.length === 0;

    while (wanting() && !this.daemon.fallen && Date.now() < deadline) {
      const deaths = this.daemon.deaths;

      if (!this.daemon.port) {
        await delay(5);
        continue;
      }
      await this.attempt(deaths);
    }
  }

  attempt(deaths) {
    this.attempts++;
    return new Promise((resolve) => {
      const chunks = [];
      const over = (why) => {
        const lived = deaths === this.daemon.deaths;

        if (why && lived && !this.wanted) {
          this.refused = 1;
        } else if (why && lived) {
          this.problems.push(`stream of ${this.id}: ${why}, but the daemon lived`);
        }
        if (why) {
          this.partials.push(Buffer.concat(chunks));
        }
        resolve();
      };
      const req = http.get(
        { host: '127.0.0.1', port: this.daemon.port, path: `/v1/videos/${this.id}/stream`, agent: false },
        (res) => {
          if (res.statusCode !== 200) {
            res.resume();
            this.refused = res.statusCode;
            resolve();
            return;
          }
          res.on('data', (c) => chunks.push(c));
          res.on('error', () => {});
          res.on('close', () => {
            if (res.complete) {
              this.bytes = Buffer.concat(chunks);
            }
            over(res.complete ? '' : 'cut');
          });
        },
      );
      let failed = false;
      req.on('error', (e) => {
        if (!failed && !req.res) {
          failed = true;
          over(`${e.message}`);
        }
      });
    });
  }
}

// Server-sent events, resumed with Last-Event-ID as often as it takes. Events of a job end with its end.
export class EventReader {
  constructor(daemon, target, { from = null, onEvent = () => {} } = {}) {
    this.daemon = daemon;
    this.target = target;
    this.last = from;
    this.rising = 0; // the last id of a real event
    this.events = []; // {id, type, data}; without progress
    this.progress = 0;
    this.problems = [];
    this.onEvent = onEvent;
    this.ended = false; // by the server, in good order
    this.closed = false;
    this.connections = 0;
    this.done = this.run();
  }

  async run() {
    while (!this.ended && !this.closed && !this.daemon.fallen && this.problems.length < 5) {
      if (!this.daemon.port) {
        await delay(5);
        continue;
      }
      await this.attempt(this.daemon.deaths);
    }
  }

  close() {
    this.closed = true;
    this.req?.destroy();
    return this.done;
  }

  attempt(deaths) {
    const headers = this.last === null ? {} : { 'Last-Event-ID': String(this.last) };

    this.connections++;
    return new Promise((resolve) => {
      let text = '';
      const over = (why) => {
        if (why && !this.closed && deaths === this.daemon.deaths) {
          this.problems.push(`events ${this.target}: ${why}, but the daemon lived`);
        }
        resolve();
      };
      const req = http.get(
        { host: '127.0.0.1', port: this.daemon.port, path: this.target, headers, agent: false },
        (res) => {
          if (res.statusCode !== 200) {
            this.ended = res.statusCode === 204;
            res.resume();
            over(this.ended ? '' : `status ${res.statusCode}`);
            return;
          }
          res.setEncoding('utf8');
          res.on('data', (piece) => {
            const parts = (text + piece).split('\n\n');

            text = parts.pop();
            parts.forEach((p) => this.take(p));
          });
          res.on('error', () => {});
          res.on('close', () => {
            this.ended = res.complete;
            over(res.complete ? '' : 'cut');
          });
        },
      );

      this.req = req;
      req.on('error', (e) => {
        if (!req.res) {
          over(e.message);
        }
      });
    });
  }

  take(part) {
    const field = (name) => new RegExp(`^${name}: ?(.*)$`, 'm').exec(part)?.[1];
    const id = field('id');
    const type = field('event');
    const text = field('data');

    if (id !== undefined) {
      this.last = Number(id);
    }
    if (!type) {
      return;
    }
    if (type === 'stream.reset') {
      this.problems.push(`events ${this.target}: stream.reset at ${id}`);
    }
    const { seq, data } = JSON.parse(text);

    if (type !== 'video.snapshot' && !(Number(id) > this.rising)) {
      this.problems.push(`events ${this.target}: ${type} ${id} (${data.id}) after ${this.rising}`);
    }
    if (seq !== Number(id)) {
      this.problems.push(`events ${this.target}: ${type} has id ${id} and seq ${seq}`);
    }
    this.rising = Math.max(this.rising, Number(id));
    if (type === 'video.progress') {
      this.progress++;
    } else {
      this.events.push({ id: Number(id), type, data });
    }
    this.onEvent({ id: Number(id), type, data });
  }
}

// What a job's events have to say, whoever read them, if it was completed. Problems.
export function checkEvents(who, id, events, blocks) {
  const problems = [];
  const of = (type) => events.filter((e) => e.type === type);
  const indexes = of('video.block').map((e) => e.data.index);
  const wanted = Array.from({ length: blocks }, (_, i) => i);

  if (indexes.join() !== wanted.join()) {
    problems.push(`${who} of ${id}: block events ${indexes.join()}, not ${wanted.join()}`);
  }
  for (const [type, n] of [['video.in_progress', 1], ['video.completed', 1], ['video.failed', 0]]) {
    if (of(type).length !== n) {
      problems.push(`${who} of ${id}: ${of(type).length} events ${type}, not ${n}`);
    }
  }
  return problems;
}

// ---- files ----

// The boxes of the outermost level; the last may be cut.
export function* boxes(data) {
  for (let at = 0; at + 8 <= data.length; ) {
    const size = data.readUInt32BE(at);

    if (size < 8) {
      throw new Error(`a box of ${size} bytes at ${at}`);
    }
    yield { type: data.toString('latin1', at + 4, at + 8), at, size };
    at += size;
  }
}

// Without the signs of life.
export function withoutFree(data) {
  const parts = [];
  let end = 0;

  for (const b of boxes(data)) {
    end = Math.min(b.at + b.size, data.length);
    if (b.type !== 'free' || b.size !== 8) {
      parts.push(data.subarray(b.at, end));
    }
  }
  parts.push(data.subarray(end));
  return Buffer.concat(parts);
}

function crc32(data) {
  let c = 0xffffffff;

  for (const byte of data) {
    c ^= byte;
    for (let k = 0; k < 8; k++) {
      c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    }
  }
  return (c ^ 0xffffffff) >>> 0;
}

// A picture of noise, so that it has some size.
export function png(width, height, seed) {
  const next = random(seed);
  const raw = Buffer.alloc(height * (1 + 3 * width));
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const ret = Buffer.alloc(body.length + 8);

    ret.writeUInt32BE(data.length, 0);
    body.copy(ret, 4);
    ret.writeUInt32BE(crc32(body), body.length + 4);
    return ret;
  };
  const head = Buffer.alloc(13);

  for (let i = 0; i < raw.length; i++) {
    raw[i] = i % (1 + 3 * width) === 0 ? 0 : Math.floor(256 * next());
  }
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', head),
    chunk('IDAT', zlib.deflateSync(raw)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
