// Kills workers and daemons at random moments while jobs wait, run and are watched, and then looks whether
// everything that was promised is there.
//   node crash.mjs [--kills N] [--seed S]
// The same seed draws the same kills; when they strike still depends on the machine.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {
  boxes, checkEvents, Daemon, delay, EventReader, Lab, median, MODELS, options, png, random, Report, sha256, StreamReader,
  until, withoutFree,
} from './daemon.mjs';

const IN_FLIGHT = 6;
const ABANDONED = 0.15; // part of the jobs that are cancelled or deleted
const ARGS = [
  '--worker-max-deaths', '100', '--worker-restart-delay', '20ms', '--worker-restart-delay-max', '100ms',
  '--worker-checkpoint-interval', '50ms',
];
// Files that a finished video may have.
const KEPT = /^(video\.mp4|fragments\.mp4|thumbnail\.(jpg|webp)|spritesheet\.jpg|reference)$/;

const { kills, seed } = options({ kills: 200, seed: Math.floor(1e6 * Math.random()) });
const next = random(seed);
const pick = (list) => list[Math.floor(next() * list.length)];

// ---- what is asked for ----

const PICTURE = png(80, 72, 7);
const REQUESTS = [
  { prompt: 'a cat on a roof', seed: 1, num_frames: 33 },
  { prompt: 'rain over the harbour', seed: 2, num_frames: 64 },
  { prompt: 'a long way home', seed: 3, num_frames: 161 },
  { prompt: 'one picture', seed: 4, num_frames: 1 },
  { prompt: 'a square dance', seed: 5, num_frames: 97, size: '96x64' },
  { prompt: 'from a picture', seed: 6, num_frames: 49, picture: true },
];

// [body, headers] as JSON, or as a form if a picture is sent along.
function encode(request, labels) {
  const { picture, ...fields } = { ...request, ...labels };
  const boundary = '----sanad-crash';

  if (!picture) {
    return [fields, {}];
  }
  const text = Object.entries(fields)
    .map(([k, v]) => {
      const value = typeof v === 'object' ? JSON.stringify(v) : v;
      return `--${boundary}\r\nContent-Disposition: form-data; name="${k}"\r\n\r\n${value}\r\n`;
    })
    .join('');
  const body = Buffer.concat([
    Buffer.from(`${text}--${boundary}\r\nContent-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\n`),
    PICTURE,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);

  return [body, { 'content-type': `multipart/form-data; boundary=${boundary}` }];
}

async function submit(d, request, labels, key) {
  const [body, headers] = encode(request, labels);
  const deadline = Date.now() + 60000;

  for (;;) {
    const r = await d.insist('POST', '/v1/videos', body, { ...headers, 'Idempotency-Key': key });

    if (r.status === 200) {
      return r.json;
    }
    if (r.status !== 503 || !r.headers['retry-after'] || Date.now() > deadline) {
      throw new Error(`POST: ${r.status} ${r.body}`);
    }
    await delay(10); // it has just started, and has no model yet
  }
}

async function content(d, id, variant = '') {
  const r = await d.request('GET', `/v1/videos/${id}/content${variant}`);

  if (r.status !== 200) {
    throw new Error(`content${variant} of ${id}: ${r.status} ${r.body}`);
  }
  return r;
}

// ---- the undisturbed run ----

function probe(data, dir) {
  const file = path.join(dir, 'probe.mp4');

  fs.writeFileSync(file, data);
  const r = spawnSync(
    'ffprobe',
    ['-v', 'error', '-count_frames', '-select_streams', 'v', '-show_entries', 'stream=nb_read_frames', '-of', 'csv=p=0', file],
    { encoding: 'utf8' },
  );

  fs.rmSync(file);
  return r.stderr ? r.stderr : Number.parseInt(r.stdout, 10);
}

async function reference(lab, kind) {
  const d = new Daemon(lab, { kind, args: ARGS });
  const ret = [];

  await d.start();
  for (const request of REQUESTS) {
    const { id } = await submit(d, request, {}, `reference-${request.seed}`);
    const object = await d.ended(id);
    const video = (await content(d, id)).body;
    const fragments = (await content(d, id, '?variant=fragmented')).body;
    const n = probe(video, lab.dir);
    const m = probe(fragments, lab.dir);

    if (object.status !== 'completed' || sha256(video) !== object.sha256) {
      throw new Error(`reference ${id}: ${JSON.stringify(object.error)}`);
    }
    if (n !== request.num_frames || m !== request.num_frames) {
      throw new Error(`reference ${id}: ${n} and ${m} frames, not ${request.num_frames}`);
    }
    const moofs = [...boxes(fragments)].filter((b) => b.type === 'moof').length;

    if (moofs !== object.blocks.total) {
      throw new Error(`reference ${id}: ${moofs} fragments, ${object.blocks.total} blocks`);
    }
    ret.push({ request, object, fragments });
  }
  await d.stop();
  return ret;
}

// ---- one job and those who watch it ----

class Watched {
  constructor(d, ref, object, key) {
    this.d = d;
    this.ref = ref;
    this.id = object.id;
    this.key = key;
    this.fate = 'complete'; // or: cancel, delete
    this.object = object;
    this.problems = [];
    this.over = false;
    this.stream = new StreamReader(d, this.id);
    this.events = new EventReader(d, `/v1/videos/${this.id}/events`, { from: 0 });
  }

  // Looks at the object once.
  async poll() {
    const deaths = this.d.deaths;
    let r;

    try {
      r = await this.d.json('GET', `/v1/videos/${this.id}`);
    } catch (e) {
      if (deaths === this.d.deaths && this.d.port) {
        this.problems.push(`poll of ${this.id}: ${e.message}, but the daemon lived`);
        this.over = true;
      }
      return;
    }
    if (r.status !== 200) {
      if (this.fate !== 'delete') {
        this.problems.push(`${this.id}: status ${r.status} ${r.body}`);
      }
      this.over = true;
      return;
    }
    if (r.json.blocks.done < this.object.blocks.done) {
      this.problems.push(`${this.id}: ${r.json.blocks.done} blocks after ${this.object.blocks.done}`);
    }
    if (r.json.progress < this.object.progress && this.life === deaths) {
      this.problems.push(`${this.id}: progress ${r.json.progress} after ${this.object.progress}`);
    }
    if (['completed', 'failed'].includes(this.object.status) && r.json.status !== this.object.status) {
      this.problems.push(`${this.id}: ${r.json.status} after ${this.object.status}`);
    }
    this.life = deaths;
    this.object = r.json;
    this.over = ['completed', 'failed'].includes(r.json.status);
  }

  // A client that does not want it any more.
  async abandon(fate) {
    this.fate = fate;
    this.stream.wanted = false;
    if (fate === 'cancel') {
      const r = await this.d.insist('POST', `/v1/videos/${this.id}/cancel`);

      if (r.status !== 200 && r.status !== 202) {
        this.problems.push(`cancel of ${this.id}: ${r.status} ${r.body}`);
      }
      return;
    }
    const r = await this.d.insist('DELETE', `/v1/videos/${this.id}`);

    this.d.note(`DELETE of ${this.id}: ${r.status}`);
    // 404: it was done, and the daemon was killed before it could say so.
    if (r.status !== 200 && !(r.status === 404 && r.cut)) {
      this.problems.push(`delete of ${this.id}: ${r.status} ${r.body}`);
    }
  }

  async verifyCompleted() {
    const { d, id, object, ref, problems } = this;
    const want = ref.object.sha256;
    const video = await content(d, id);
    const fragments = (await content(d, id, '?variant=fragmented')).body;
    const read = this.stream.bytes && withoutFree(this.stream.bytes);

    if (object.sha256 !== want || video.headers.etag !== `"sha256-${want}"` || sha256(video.body) !== want) {
      problems.push(`${id} (seed ${object.seed}): ${object.sha256} ${video.headers.etag} ${sha256(video.body)}, not ${want}`);
    }
    if (!fragments.equals(ref.fragments)) {
      problems.push(`${id}: other fragments than in the undisturbed run`);
    }
    if (!read?.equals(fragments)) {
      problems.push(`stream of ${id}: ${read?.length} bytes (refused ${this.stream.refused}), not those ${fragments.length}`);
    }
    for (const p of this.stream.partials.map(withoutFree)) {
      if (!fragments.subarray(0, p.length).equals(p)) {
        problems.push(`stream of ${id}: ${p.length} bytes before a crash were not the beginning`);
      }
    }
    for (const variant of ['thumbnail', 'spritesheet']) {
      await content(d, id, `?variant=${variant}`);
    }
    problems.push(...checkEvents('events', id, this.events.events, ref.object.blocks.total));
    const bytes = this.events.events.filter((e) => e.type === 'video.block').map((e) => e.data);
    const frames = bytes.reduce((n, b) => n + b.frames, 0);

    if (frames !== ref.request.num_frames) {
      problems.push(`events of ${id}: ${frames} frames, not ${ref.request.num_frames}`);
    }
  }

  async verify() {
    const code = this.object.error?.code;

    this.problems.push(...this.stream.problems, ...this.events.problems);
    if (this.fate === 'delete') {
      const r = await this.d.json('GET', `/v1/videos/${this.id}`);

      if (r.status !== 404) {
        this.problems.push(`${this.id} was deleted: ${r.status} ${r.json.status}`);
      }
    } else if (this.object.status === 'completed') {
      await this.verifyCompleted();
    } else if (this.fate !== 'cancel' || code !== 'cancelled') {
      this.problems.push(`${this.id} (${this.fate}): ${this.object.status} ${JSON.stringify(this.object.error)}`);
    }
    return this.problems;
  }
}

// ---- the storm ----

class Storm {
  constructor(d, refs) {
    this.d = d;
    this.refs = refs;
    this.jobs = [];
    this.problems = [];
    this.killed = { worker: 0, daemon: 0, both: 0, start: 0 };
    this.last = {}; // how many events of a type came
    this.storming = true;
    this.pace = 200 + 1000 * median(refs.map((r) => r.object.inference_time_s)); // ms that a job takes
    this.all = new EventReader(d, '/v1/events', { from: 0, onEvent: (e) => this.count(e) });
  }

  count({ type, data }) {
    const end = type === 'video.block' && data.index + 1 === data.total;

    this.last[type] = (this.last[type] ?? 0) + 1;
    if (end) {
      this.last.rendered = (this.last.rendered ?? 0) + 1;
    }
  }

  get running() {
    return this.jobs.filter((j) => !j.over);
  }

  // Keeps jobs waiting and running; of all priorities, so that some are overtaken.
  async submitter() {
    for (let n = 0; this.storming; n++) {
      if (this.running.length >= IN_FLIGHT) {
        await delay(10);
        continue;
      }
      const ref = pick(this.refs);
      const key = `storm-${n}`;
      const labels = { priority: pick([-50, 0, 0, 50]), metadata: { key } };
      const object = await submit(this.d, ref.request, labels, key);
      const job = new Watched(this.d, ref, object, key);

      this.jobs.push(job);
      if (next() < ABANDONED) {
        const fate = pick(['cancel', 'delete']);
        const after = next() * 1500;

        job.left = delay(after).then(() => job.abandon(fate));
        job.left.catch((e) => this.problems.push(e.message));
      }
    }
  }

  async poller() {
    while ((this.storming || this.running.length > 0) && !this.d.fallen) {
      await Promise.all(this.running.map((j) => j.poll()));
      await delay(20);
    }
  }

  // A moment: after some time, or just after something happened.
  async moment() {
    const what = pick(['time', 'time', 'time', 'video.block', 'rendered', 'video.completed', 'video.in_progress']);
    const short = next() * 25;
    const long = next() < 0.3 ? 50 * next() : 1.5 * this.pace * next();

    if (what === 'time') {
      await delay(long);
      return;
    }
    const seen = this.last[what] ?? 0;
    const deadline = Date.now() + 3 * this.pace;

    while ((this.last[what] ?? 0) === seen && Date.now() < deadline && !this.d.fallen) {
      await delay(1);
    }
    await delay(short);
  }

  async strike(whom) {
    this.killed[whom]++;
    if (whom === 'worker') {
      await until('there is a worker to be killed', () => this.d.killWorker() || this.d.fallen, 15000, 2);
      return;
    }
    if (whom === 'both') {
      this.d.killWorker();
    }
    await this.d.kill();
    while (next() < 0.2) {
      const early = next() * 60;

      this.killed.start++;
      this.d.spawn();
      await delay(early);
      await this.d.kill();
    }
    if (next() < 0.1) {
      this.problems.push(...integrity(this.d));
    }
    await this.d.start(false);
  }

  async killer(n) {
    const total = () => Object.values(this.killed).reduce((a, b) => a + b);

    while (total() < n && !this.d.fallen) {
      await this.moment();
      await this.strike(pick(['worker', 'worker', 'worker', 'daemon', 'daemon', 'both']));
    }
    this.storming = false;
  }

  async calm() {
    await until('all jobs are over', () => this.running.length === 0 || this.d.fallen, 120000).catch(() => {
      for (const j of this.running) {
        this.problems.push(`stuck: ${j.id} ${j.object.status} ${j.object.phase} blocks ${JSON.stringify(j.object.blocks)}`);
        j.stream.wanted = false;
        j.events.close();
      }
      this.jobs = this.jobs.filter((j) => j.over);
    });
    await Promise.all(this.jobs.map((j) => j.left));
    for (const j of this.jobs) {
      const what = `the readers of ${j.id} are done`;
      const late = (e) => this.problems.push(`${what}: not (${e.message})`);

      if (j.fate === 'delete' || this.d.fallen) {
        continue; // how theirs end depends on when it was
      }
      await until(what, async () => (await Promise.race([j.stream.done.then(() => 1), delay(0)])) === 1, 20000).catch(late);
      await until(what, async () => (await Promise.race([j.events.done.then(() => 1), delay(0)])) === 1, 20000).catch(late);
    }
  }

  // The list, and what the stream of all events said.
  async verifyAll() {
    const listed = await this.d.list();
    const keys = listed.map((v) => v.metadata.key);
    const wanted = this.jobs.filter((j) => j.fate !== 'delete');
    const problems = [];

    for (const j of wanted) {
      if (keys.filter((k) => k === j.key).length !== 1) {
        problems.push(`${j.key}: ${keys.filter((k) => k === j.key).length} jobs`);
      }
      if (listed.find((v) => v.id === j.id)?.status !== j.object.status) {
        problems.push(`${j.id}: ${j.object.status}, but in the list ${listed.find((v) => v.id === j.id)?.status}`);
      }
    }
    if (listed.length !== wanted.length) {
      problems.push(`${listed.length} jobs in the list, ${wanted.length} were accepted`);
    }
    const newest = Math.max(0, ...this.jobs.flatMap((j) => (j.fate === 'delete' ? [] : j.events.events.map((e) => e.id))));

    await until('the stream of all events is complete', () => this.all.last >= newest || this.all.problems.length, 10000);
    await this.all.close();
    problems.push(...this.all.problems);
    for (const j of wanted.filter((v) => v.object.status === 'completed')) {
      const its = this.all.events.filter((e) => e.data.id === j.id);

      problems.push(...checkEvents('all events', j.id, its, j.ref.object.blocks.total));
    }
    return problems;
  }
}

// ---- what is left ----

function integrity(d) {
  const file = path.join(d.dir, 'sanad.db');

  if (!fs.existsSync(file)) {
    return [];
  }
  const r = spawnSync('sqlite3', [file, 'PRAGMA integrity_check; PRAGMA foreign_key_check;'], { encoding: 'utf8' });

  return r.stdout === 'ok\n' ? [] : [`integrity: ${r.stdout}${r.stderr}`];
}

function leftovers(d, ids) {
  const problems = [];
  const videos = path.join(d.dir, 'videos');

  for (const id of fs.readdirSync(videos)) {
    if (!ids.has(id)) {
      problems.push(`videos/${id} belongs to nobody`);
    }
    for (const name of fs.readdirSync(path.join(videos, id)).filter((n) => !KEPT.test(n))) {
      problems.push(`videos/${id}/${name} is left`);
    }
  }
  for (const name of fs.readdirSync(path.join(d.dir, 'spool'))) {
    problems.push(`spool/${name} is left`);
  }
  return problems;
}

async function storm(report, lab, kind, n) {
  const refs = await reference(lab, kind);
  const d = new Daemon(lab, { kind, args: ARGS });

  await d.start();
  const s = new Storm(d, refs);
  const broke = (e) => {
    s.problems.push(e.stack);
    s.storming = false;
  };
  const parts = [s.submitter(), s.poller()];

  parts.forEach((p) => p.catch(broke));
  await s.killer(n).catch(broke);
  await s.calm().catch(broke);
  await d.settle();
  if (d.fallen) {
    report.tell(`${kind}: the storm`, [d.fallen, ...s.problems.slice(0, 5)]); // the rest would only follow from it
    return;
  }
  report.tell(`${kind}: nothing stuck, nothing broke`, s.problems);

  const by = (fate) => s.jobs.filter((j) => j.fate === fate);
  const restarts = s.jobs.reduce((sum, j) => sum + (j.object.restarts ?? 0), 0);

  console.log(`    ${kind}: killed ${JSON.stringify(s.killed)}; ${s.jobs.length} jobs (${by('cancel').length} cancelled, ` +
    `${by('delete').length} deleted), ${restarts} restarts, ${s.all.connections} connections of the reader of all events`);
  const problems = [];
  for (const j of s.jobs) {
    try {
      const its = await j.verify();

      problems.push(...its, ...(its.length > 0 ? d.story(j.id) : []));
    } catch (e) {
      problems.push(e.message, ...d.story(j.id));
    }
  }
  report.tell(`${kind}: every accepted job is complete and equal to the undisturbed run`, problems);
  await report.run(`${kind}: the list and the stream of all events`, () => s.verifyAll());
  await report.run(`${kind}: nothing is left behind`, async () => {
    const ids = new Set((await d.list()).map((v) => v.id));
    const how = await d.stop();
    const left = how === 0 ? [] : [`the daemon ended with ${how}`];

    await until('the workers are gone', () => d.survivors().length === 0, 10000).catch(() =>
      left.push(`processes ${d.survivors().join()} are left`));
    return [...left, ...integrity(d), ...leftovers(d, ids)];
  });
  report.tell(`${kind}: no error in the log`, d.errors);
}

// ---- a job that kills its workers ----

async function poison(report, lab) {
  const d = new Daemon(lab, {
    kind: 'bidirectional',
    args: ['--worker-max-deaths', '3', '--worker-restart-delay', '20ms', '--worker-restart-delay-max', '100ms'],
  });
  let runs = 0;

  d.listeners.add((line) => {
    if (line.includes(`job=${d.poison} running `) && d.killWorker()) {
      runs++;
    }
  });
  await d.start();
  await report.run('a job whose workers die fails with its reason, and the daemon goes on', async () => {
    const problems = [];
    const blocker = await d.create({ prompt: 'before', seed: 1, num_frames: 161 });
    const bad = await d.create({ prompt: 'poison', seed: 2, num_frames: 161, size: '128x128' });

    d.poison = bad.id;
    const good = await d.create({ prompt: 'after', seed: 3 });
    const first = await d.ended(blocker.id);
    const end = await d.ended(bad.id);
    const after = await d.ended(good.id);

    if (first.status !== 'completed' || after.status !== 'completed') {
      problems.push(`the others: ${first.status}, ${after.status}`);
    }
    if (end.status !== 'failed' || end.error?.code !== 'generation_failed' || !/3 times/.test(end.error?.message)) {
      problems.push(`the job: ${end.status} ${JSON.stringify(end.error)}`);
    }
    if (runs !== 3) {
      problems.push(`it was run ${runs} times`);
    }
    if ((await d.stop()) !== 0) {
      problems.push('the daemon did not end well');
    }
    return problems;
  });
}

// ---- what a new life knows of the old one ----

async function afterlife(report, lab) {
  const d = new Daemon(lab, { kind: 'causal', args: ARGS });
  const ids = [];

  await d.start();
  for (const n of [1, 2, 3]) {
    const { id } = await d.create({ ...REQUESTS[3], seed: n });

    ids.push((await d.ended(id)).id);
  }
  await d.kill();
  await d.start();
  await report.run('finished videos of an earlier life can be cancelled, changed and deleted', async () => {
    const problems = [];
    const expect = async (method, target, value, wanted) => {
      const r = await d.json(method, target, value);

      if (r.status !== wanted) {
        problems.push(`${method} ${target}: ${r.status}, not ${wanted}: ${r.body}`);
      }
      return r.json;
    };
    const same = await expect('POST', `/v1/videos/${ids[0]}/cancel`, undefined, 200);
    const many = await expect('POST', '/v1/videos/cancel', { ids: [ids[0]] }, 200);

    if (same.status !== 'completed' || many.data?.[0]?.status !== 'completed') {
      problems.push(`cancel of a finished video: ${same.status}, ${JSON.stringify(many)}`);
    }
    await expect('POST', `/v1/videos/${ids[1]}`, { tags: ['kept'] }, 200);
    await expect('DELETE', `/v1/videos/${ids[2]}`, undefined, 200);
    await expect('GET', `/v1/videos/${ids[2]}`, undefined, 404);
    await d.stop();
    return [...problems, ...leftovers(d, new Set(ids.slice(0, 2)))];
  });
}

// ---- a disk that lost what was stored ----

async function lost(report, lab) {
  const d = new Daemon(lab, { kind: 'causal', args: ARGS });

  await d.start();
  const { id } = await d.create({ prompt: 'lost', seed: 1, num_frames: 641 });
  const seen = new EventReader(d, `/v1/videos/${id}/events`, { from: 0 });

  await until('three blocks', () => seen.events.filter((e) => e.type === 'video.block').length >= 3);
  await d.kill();
  fs.truncateSync(path.join(d.dir, 'videos', id, 'fragments.mp4'), 2000);
  await d.start();
  await report.run('a video whose bytes were lost fails, and its readers are told', async () => {
    const problems = [];
    const end = await d.ended(id);
    const next = await d.ended((await d.create(REQUESTS[3])).id);

    if (end.status !== 'failed' || next.status !== 'completed') {
      problems.push(`${end.status}, the next one ${next.status}`);
    }
    await until('its events end', () => seen.ended, 5000).catch((e) => problems.push(e.message));
    await seen.close();
    const ends = seen.events.filter((e) => /completed|failed/.test(e.type)).map((e) => e.type);

    if (ends.join() !== 'video.failed') {
      problems.push(`its reader, who came back, saw ${ends.join() || 'no end'}`);
    }
    await d.stop();
    return [...problems, ...seen.problems];
  });
}

// ----

const report = new Report();
const lab = new Lab();
const kinds = Object.keys(MODELS);

console.log(`seed ${seed}, ${kills} kills`);
for (const [i, kind] of kinds.entries()) {
  const n = Math.floor(kills / kinds.length) + (i < kills % kinds.length ? 1 : 0);

  try {
    await storm(report, lab, kind, n);
  } catch (e) {
    report.tell(`${kind}: the storm`, [e.stack]);
  }
}
await poison(report, lab);
await afterlife(report, lab);
await lost(report, lab);
lab.remove();
report.end();
process.exit();
