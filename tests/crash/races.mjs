// Requests that meet: cancel and delete against a video's completion, identical idempotency keys at once, everything
// at once against one video.
//   node races.mjs [--rounds N] [--deletes N] [--keys N] [--seed S]
import fs from 'node:fs';
import path from 'node:path';
import {
  checkEvents, Daemon, delay, EventReader, Lab, options, random, Report, sha256, StreamReader, until,
} from './daemon.mjs';

const { rounds, deletes, keys, seed } = options({
  rounds: 100, deletes: 20, keys: 20, seed: Math.floor(1e6 * Math.random()),
});
const next = random(seed);
const REQUEST = { prompt: 'a race', seed: 11, num_frames: 33 };
const LONG = { prompt: 'a long race', seed: 12, num_frames: 641 };

const report = new Report();
const lab = new Lab();
const d = new Daemon(lab, { kind: 'causal' });

// What an undisturbed run gave, and how long it took.
let want;

async function rehearse() {
  const begun = Date.now();
  const { id } = await d.create(REQUEST);
  let rendered = 0;
  let completed = 0;
  const onEvent = ({ type, data }) => {
    rendered = type === 'video.block' && data.index + 1 === data.total ? Date.now() : rendered;
    completed = type === 'video.completed' ? Date.now() : completed;
  };

  await new EventReader(d, `/v1/videos/${id}/events`, { from: 0, onEvent }).done;
  const object = await d.ended(id);
  const fragments = (await d.request('GET', `/v1/videos/${id}/content?variant=fragmented`)).body;

  want = { sha256: object.sha256, fragments, blocks: object.blocks.total, ms: completed - begun, finish: completed - rendered };
}

async function eventsOf(id) {
  const r = await d.request('GET', `/v1/videos/${id}/events`, { headers: { 'Last-Event-ID': '0' } });

  return r.body
    .toString()
    .split('\n\n')
    .map((part) => ({ type: /^event: (.*)$/m.exec(part)?.[1], data: /^data: (.*)$/m.exec(part)?.[1] }))
    .filter((e) => e.type)
    .map((e) => ({ type: e.type, data: JSON.parse(e.data).data }));
}

// Somewhere around the end of the job: after a part of its time, or just behind its last block.
async function nearTheEnd(id, reader) {
  if (next() < 0.4) {
    await delay(want.ms * 1.1 * next());
    return;
  }
  const wait = next() * 1.3 * want.finish;

  await until(
    `the last block of ${id}`,
    () => reader.events.some((e) => e.type === 'video.block' && e.data.index + 1 === e.data.total),
    20000,
    1,
  );
  await delay(wait);
}

async function checkCompleted(id, object) {
  const problems = [];
  const r = await d.request('GET', `/v1/videos/${id}/content`);

  if (r.status !== 200 || sha256(r.body) !== want.sha256 || object.sha256 !== want.sha256) {
    problems.push(`${id}: completed, but ${r.status}, ${object.sha256}`);
  }
  return [...problems, ...checkEvents('events', id, await eventsOf(id), want.blocks)];
}

async function checkCancelled(id, object) {
  const problems = [];
  const r = await d.json('GET', `/v1/videos/${id}/content`);
  const partial = await d.request('GET', `/v1/videos/${id}/content?variant=fragmented&partial=true`);
  const events = await eventsOf(id);
  const blocks = events.filter((e) => e.type === 'video.block').map((e) => e.data.index);
  const ends = events.filter((e) => /completed|failed/.test(e.type)).map((e) => e.type);

  if (object.error?.code !== 'cancelled') {
    problems.push(`${id}: ${JSON.stringify(object.error)}`);
  }
  if (r.status !== 422 || r.json.error.code !== 'video_generation_failed') {
    problems.push(`${id}: cancelled, but its content is ${r.status} ${r.body.subarray(0, 200)}`);
  }
  if (blocks.join() !== [...blocks.keys()].join() || blocks.length !== object.blocks.done) {
    problems.push(`${id}: blocks ${blocks.join()}, but ${object.blocks.done} are done`);
  }
  if (ends.join() !== 'video.failed') {
    problems.push(`${id}: cancelled, its ends: ${ends.join()}`);
  }
  const whole = blocks.length > 0 ? partial.status === 200 : [200, 404, 422].includes(partial.status);

  if (!whole || (partial.status === 200 && !want.fragments.subarray(0, partial.body.length).equals(partial.body))) {
    problems.push(`${id}: ${blocks.length} blocks, partial ${partial.status}, ${partial.body.length} bytes`);
  }
  return problems;
}

// One terminal event, and object, list, events and files that agree with it.
async function checkEnd(id) {
  const object = await d.ended(id, 20000);
  const listed = (await d.json('GET', '/v1/videos?limit=100')).json.data.find((v) => v.id === id);
  const problems = [];

  if (listed?.status !== object.status || listed?.error?.code !== object.error?.code) {
    problems.push(`${id}: ${object.status}, in the list ${listed?.status}`);
  }
  problems.push(...(object.status === 'completed' ? await checkCompleted(id, object) : await checkCancelled(id, object)));
  return { object, problems };
}

async function cancelAgainstCompletion() {
  const outcome = { completed: 0, failed: 0, 202: 0 };
  const problems = [];

  for (let i = 0; i < rounds; i++) {
    const { id } = await d.create(REQUEST);
    const reader = new EventReader(d, `/v1/videos/${id}/events`, { from: 0 });

    await nearTheEnd(id, reader);
    const r = await d.json('POST', `/v1/videos/${id}/cancel`);
    const said = r.json.status;

    if (r.status === 202) {
      outcome[202]++;
    }
    if (r.status === 202 ? r.json.cancel_requested !== true : r.status !== 200 || !/completed|failed/.test(said)) {
      problems.push(`cancel of ${id}: ${r.status} ${r.body}`);
    }
    const end = await checkEnd(id);

    await reader.done;
    outcome[end.object.status]++;
    problems.push(...end.problems, ...reader.problems);
    if (r.status === 200 && said !== end.object.status) {
      problems.push(`${id}: the cancel said ${said}, then it was ${end.object.status}`);
    }
    const ends = reader.events.filter((e) => /completed|failed/.test(e.type)).map((e) => e.type);

    if (ends.join() !== `video.${end.object.status}`) {
      problems.push(`${id}: ${end.object.status}, its reader saw ${ends.join()}`);
    }
  }
  console.log(`    ${JSON.stringify(outcome)}`);
  if (rounds >= 20 && (outcome.completed === 0 || outcome.failed === 0)) {
    problems.push('only one side ever won: the race did not happen');
  }
  return problems;
}

// ---- deleting ----

// After a delete was answered nothing of the video may ever be seen again.
async function checkGone(id, all) {
  const problems = [];
  const folder = path.join(d.dir, 'videos', id);
  const marker = await d.create({ ...REQUEST, num_frames: 1 }); // whatever the worker had still to say is said

  for (const target of [`/v1/videos/${id}`, `/v1/videos/${id}/content`, `/v1/videos/${id}/events`]) {
    const r = await d.request('GET', target);

    if (r.status !== 404) {
      problems.push(`${target} was deleted: ${r.status}`);
    }
  }
  const again = await d.request('DELETE', `/v1/videos/${id}`);

  if (again.status !== 404) {
    problems.push(`second delete of ${id}: ${again.status}`);
  }
  if ((await d.json('GET', '/v1/videos?limit=100')).json.data.some((v) => v.id === id)) {
    problems.push(`${id} is in the list`);
  }
  if ((await d.ended(marker.id)).status !== 'completed') {
    problems.push(`the job after ${id} was not completed`);
  }
  await until(`the folder of ${id} is gone`, () => !fs.existsSync(folder), 5000).catch((e) => problems.push(e.message));
  await until('the stream of all events is there', () => all.events.some((e) => e.type === 'video.completed' && e.data.id === marker.id), 5000);
  const its = all.events.filter((e) => e.data.id === id).map((e) => e.type);

  if (its.filter((t) => t === 'video.deleted').length !== 1 || its.at(-1) !== 'video.deleted') {
    problems.push(`events of ${id}: ${its.slice(-4).join()}`);
  }
  return problems;
}

async function expectDeleted(id) {
  const r = await d.json('DELETE', `/v1/videos/${id}`);
  const good = r.status === 200 && r.json.deleted === true && r.json.object === 'video.deleted' && r.json.id === id;

  return good ? [] : [`delete of ${id}: ${r.status} ${r.body}`];
}

async function deleteWhileRunning(all) {
  const problems = [];

  for (let i = 0; i < deletes; i++) {
    const { id } = await d.create(LONG);
    const stream = new StreamReader(d, id);
    const reader = new EventReader(d, `/v1/videos/${id}/events`, { from: 0 });
    const blocks = Math.floor(next() * 3);

    stream.wanted = false;
    await until(`${id} runs`, () => reader.events.filter((e) => e.type === 'video.block').length >= blocks &&
      reader.events.some((e) => e.type === 'video.in_progress'), 20000, 2);
    problems.push(...(await expectDeleted(id)));
    await Promise.all([stream.done, Promise.race([reader.done, delay(5000)])]);
    if (stream.bytes) {
      problems.push(`the stream of ${id} ended as if it were complete`);
    }
    if (!reader.ended) {
      problems.push(`the events of ${id} did not end`);
      await reader.close();
    }
    problems.push(...(await checkGone(id, all)));
  }
  return problems;
}

async function deleteAgainstCompletion(all) {
  const problems = [];

  for (let i = 0; i < deletes; i++) {
    const { id } = await d.create(REQUEST);
    const reader = new EventReader(d, `/v1/videos/${id}/events`, { from: 0 });

    await nearTheEnd(id, reader);
    problems.push(...(await expectDeleted(id)));
    await reader.close();
    problems.push(...(await checkGone(id, all)));
  }
  return problems;
}

// ---- identical keys ----

async function withKey(n, key) {
  return Promise.all(
    Array.from({ length: n }, async () => {
      for (;;) {
        const r = await d.json('POST', '/v1/videos', { ...REQUEST, num_frames: 1, metadata: { key } }, { 'Idempotency-Key': key });

        if (r.status !== 409 || r.json.error.code !== 'idempotency_in_progress' || !r.headers['retry-after']) {
          return r;
        }
        await delay(10);
      }
    }),
  );
}

async function sameKeys(n, times) {
  const problems = [];

  for (let i = 0; i < times; i++) {
    const key = `same-${n}-${i}`;
    const replies = await withKey(n, key);
    const ids = new Set(replies.map((r) => r.json.id));
    const fresh = replies.filter((r) => r.headers['idempotent-replayed'] !== 'true').length;

    if (replies.some((r) => r.status !== 200) || ids.size !== 1 || fresh !== 1) {
      problems.push(`${key}: ${replies.map((r) => r.status)}; ids ${[...ids]}; ${fresh} not replayed`);
    }
    const found = (await d.json('GET', `/v1/videos?${encodeURIComponent('metadata[key]')}=${key}`)).json.data;

    if (found.length !== 1) {
      problems.push(`${key}: ${found.length} jobs`);
    }
    await Promise.all(found.map((v) => d.ended(v.id)));
  }
  return problems;
}

async function otherFields(times) {
  const problems = [];

  for (let i = 0; i < times; i++) {
    const headers = { 'Idempotency-Key': `other-${i}` };
    const post = async (n) => {
      for (;;) {
        const r = await d.json('POST', '/v1/videos', { ...REQUEST, num_frames: 1, seed: n }, headers);

        if (r.status !== 409) {
          return r;
        }
        await delay(10);
      }
    };
    const replies = await Promise.all([post(1), post(2)]);
    const statuses = replies.map((r) => r.status).sort();

    if (statuses.join() !== '200,422') {
      problems.push(`one key, two requests: ${statuses.join()}`);
    }
    await d.ended(replies.find((r) => r.status === 200).json.id);
  }
  return problems;
}

// ---- everything at once ----

async function allAtOnce(all, running) {
  const problems = [];

  for (let i = 0; i < deletes; i++) {
    const blocker = running ? null : await d.create(LONG);
    const { id } = await d.create(LONG);
    const allowed = { update: [200, 400, 404], cancel: [200, 202, 404], delete: [200, 404] };
    const url = `/v1/videos/${id}`;

    if (running) {
      await until(`${id} runs`, async () => (await d.get(id)).json.status === 'in_progress', 20000, 2);
    }
    const requests = [
      ['update', () => d.json('POST', url, { priority: -5, tags: ['a'], metadata: { a: 'b' } })],
      ['cancel', () => d.json('POST', `${url}/cancel`)],
      ['delete', () => d.json('DELETE', url)],
      ['update', () => d.json('POST', url, { tags: ['c'] })],
      ['delete', () => d.json('DELETE', url)],
      ['cancel', () => d.json('POST', `${url}/cancel`)],
    ].sort(() => next() - 0.5);
    const replies = await Promise.all(requests.map(([, fn]) => fn()));
    const deleted = replies.filter((r) => r.json.deleted).length;

    replies.forEach((r, k) => {
      if (!allowed[requests[k][0]].includes(r.status)) {
        problems.push(`${requests[k][0]} of ${id}: ${r.status} ${r.body}`);
      }
    });
    if (deleted < 1) {
      problems.push(`${id}: no delete was done: ${replies.map((r) => r.status)}`);
    }
    if (blocker) {
      problems.push(...(await expectDeleted(blocker.id)));
    }
    problems.push(...(await checkGone(id, all)));
  }
  return problems;
}

// ----

console.log(`seed ${seed}`);
await d.start();
await rehearse();
const all = new EventReader(d, '/v1/events');
await until('the reader of all events is there', () => all.last !== null);
const fds = d.fds();

await report.run(`cancel against completion x${rounds}`, cancelAgainstCompletion);
await report.run(`delete while running x${deletes}`, () => deleteWhileRunning(all));
await report.run(`delete against completion x${deletes}`, () => deleteAgainstCompletion(all));
await report.run(`two identical keys at once x${keys}`, () => sameKeys(2, keys));
await report.run('twenty identical keys at once', () => sameKeys(20, 1));
await report.run(`one key for two requests x${keys}`, () => otherFields(keys));
await report.run(`update, cancel and delete at once, queued x${deletes}`, () => allAtOnce(all, false));
await report.run(`update, cancel and delete at once, running x${deletes}`, () => allAtOnce(all, true));
await report.run('descriptors and the log', async () => {
  await until(`descriptors: ${d.fds()}, at first ${fds}`, () => d.fds() <= fds, 5000);
  await all.close();
  const how = await d.stop();
  return [...d.errors, ...all.problems, ...(how === 0 ? [] : [`the daemon ended with ${how}`])];
});
lab.remove();
report.end();
process.exit();
