// A thousand readers of events and two hundred readers of the stream that never read, while a video is made: what
// they cost the daemon and the video.
//   node load.mjs [--clients N] [--stalled N] [--rounds N] [--frames N] [--bound X] [--rss MIB] [--goal X]
// The time of the same job with and without readers is measured in turns; medians are compared.
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { Daemon, delay, Lab, median, options, Report, until } from './daemon.mjs';

const { clients, stalled, rounds, frames, bound, goal, rss, growth } = options({
  clients: 1000,
  stalled: 200,
  rounds: 3,
  frames: 97,
  bound: 1.25, // two cores that others use, too, are noisy
  goal: 1.05,
  rss: 150, // MiB, all of the daemon
  growth: 8, // MiB from the second round to the last
});
// Who waits without being sent anything is missed when the next sign of life is sent.
const KEEP_ALIVE_MS = 15000;
const REQUEST = { prompt: 'a crowd', seed: 21, num_frames: frames, size: '256x256' };

const report = new Report();
const lab = new Lab();
// The worker has all cores but one, which is left to the daemon and to the readers.
const threads = String(Math.max(1, os.cpus().length - 1));
const d = new Daemon(lab, { kind: 'causal', args: ['--threads', threads] });

class Reader {
  constructor(target, reads) {
    this.bytes = 0;
    this.blocks = 0;
    this.ended = false;
    this.socket = new net.Socket();
    if (!reads) {
      this.socket.pause(); // before it is connected: nothing is ever read
    } else {
      this.socket.on('data', (c) => {
        this.bytes += c.length;
        for (let at = 0; (at = c.indexOf('event: video.block\n', at)) >= 0; at++) {
          this.blocks++;
        }
        this.ended ||= c.includes('\r\n0\r\n\r\n') || c.equals(Buffer.from('0\r\n\r\n'));
      });
    }
    this.socket.on('error', (e) => (this.error = e.code));
    this.connected = new Promise((resolve) => {
      this.socket.connect(d.port, '127.0.0.1', () => {
        this.socket.write(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${d.port}\r\n\r\n`, resolve);
      });
      this.socket.once('close', resolve);
    });
  }
}

// Half of them follow everything, half of them this job; some of the latter are stalled readers of its stream.
async function crowd(id) {
  const ret = { events: [], stalled: [] };

  for (let i = 0; i < clients; i++) {
    ret.events.push(new Reader(i % 2 ? '/v1/events' : `/v1/videos/${id}/events`, true));
  }
  for (let i = 0; i < stalled; i++) {
    ret.stalled.push(new Reader(`/v1/videos/${id}/stream`, false));
  }
  await Promise.all([...ret.events, ...ret.stalled].map((r) => r.connected));
  await until('all readers of events have begun', () => ret.events.every((r) => r.bytes > 0 || r.error), 20000);
  return ret;
}

// The clock ticks that a process has used.
function cpu(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '').split(' ');

  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function make(withCrowd) {
  // The queue stands still until everybody is there, so that no time is measured in which they come.
  const blocker = await d.create({ prompt: 'wait', seed: 1, num_frames: 961, size: '256x256', priority: 0 });
  const job = await d.create({ ...REQUEST, priority: -1 });
  const readers = withCrowd ? await crowd(job.id) : null;
  const before = { own: process.cpuUsage(), daemon: cpu(d.child.pid) };

  await d.insist('DELETE', `/v1/videos/${blocker.id}`);
  const object = await until(
    'the video is made',
    async () => {
      const { json } = await d.json('GET', `/v1/videos/${job.id}?wait=20`);
      return json.status === 'completed' || json.status === 'failed' ? json : null;
    },
    300000,
    1,
  );
  const own = process.cpuUsage(before.own);

  return {
    id: job.id,
    object,
    readers,
    s: object.inference_time_s,
    ownCpu: (own.user + own.system) / 1e6,
    daemonCpu: cpu(d.child.pid) - before.daemon,
  };
}

function checkReaders({ object, readers }) {
  const problems = [];
  const total = object.blocks.total;
  const wrong = readers.events.filter((r) => r.error || r.blocks !== total);
  const hung = readers.stalled.filter((r) => r.error);

  if (object.status !== 'completed') {
    problems.push(`${object.id}: ${object.status}`);
  }
  if (wrong.length > 0) {
    const examples = wrong.slice(0, 3).map((r) => `${r.blocks} ${r.error ?? ''}`);
    problems.push(`${wrong.length} of ${clients} readers did not get ${total} blocks: ${examples}`);
  }
  if (hung.length > 0) {
    problems.push(`${hung.length} of ${stalled} stalled readers: ${hung[0].error}`);
  }
  return problems;
}

async function round(n, fds) {
  const alone = await make(false);
  const loaded = await make(true);
  const problems = [];

  await until(
    'all readers of events have read everything',
    () => loaded.readers.events.every((r) => r.error || r.blocks >= loaded.object.blocks.total),
    10000,
  ).catch(() => {});
  problems.push(...checkReaders(loaded));
  const open = d.fds();
  const high = d.memory();

  for (const r of [...loaded.readers.events, ...loaded.readers.stalled]) {
    r.socket.destroy();
  }
  const left = Date.now();
  await until('descriptors are closed', () => d.fds() <= fds, KEEP_ALIVE_MS + 5000).catch(() =>
    problems.push(`${d.fds()} descriptors are open, ${fds} at first`));
  const closing = (Date.now() - left) / 1000;
  const low = d.memory();

  await d.insist('DELETE', `/v1/videos/${alone.id}`);
  await d.insist('DELETE', `/v1/videos/${loaded.id}`);
  console.log(
    `    round ${n}: alone ${alone.s.toFixed(2)} s, with readers ${loaded.s.toFixed(2)} s (${loaded.object.size_bytes} bytes); ` +
      `CPU daemon ${loaded.daemonCpu.toFixed(2)} s (alone ${alone.daemonCpu.toFixed(2)} s), readers ${loaded.ownCpu.toFixed(2)} s; ` +
      `descriptors ${open} then ${d.fds()} after ${closing.toFixed(1)} s; RSS ${high.rss.toFixed(1)} then ${low.rss.toFixed(1)} MiB, peak ${low.peak.toFixed(1)} MiB`,
  );
  if (loaded.object.size_bytes < 400000) {
    problems.push('the video is too small to stall its readers');
  }
  return { alone: alone.s, loaded: loaded.s, problems, rss: low.rss, peak: low.peak };
}

await d.start();
await make(false); // everything is in the caches, all code was run once
const fds = d.fds();
const first = d.memory();
const results = [];

console.log(`    at first: ${fds} descriptors, RSS ${first.rss.toFixed(1)} MiB; the worker has ${threads} threads`);
await report.run(`${clients} readers of events and ${stalled} stalled readers x${rounds}`, async () => {
  for (let n = 1; n <= rounds; n++) {
    results.push(await round(n, fds));
  }
  return results.flatMap((r) => r.problems);
});
await report.run(`memory: at most ${rss} MiB, and it does not grow`, () => {
  const peak = Math.max(...results.map((r) => r.peak));
  const grown = results.at(-1).rss - results[Math.min(1, results.length - 1)].rss;

  console.log(`    peak ${peak.toFixed(1)} MiB, grown by ${grown.toFixed(1)} MiB`);
  return [
    ...(peak > rss ? [`the daemon had ${peak.toFixed(1)} MiB`] : []),
    ...(grown > growth ? [`it grew by ${grown.toFixed(1)} MiB`] : []),
  ];
});
await report.run(`time: at most ${bound} of that without readers`, () => {
  const ratio = median(results.map((r) => r.loaded)) / median(results.map((r) => r.alone));

  console.log(`    ratio ${ratio.toFixed(3)} (goal ${goal}: ${ratio <= goal ? 'met' : 'not met'}), load of the machine ${os.loadavg()[0].toFixed(1)}`);
  return ratio > bound ? [`ratio ${ratio.toFixed(3)}`] : [];
});
await report.run('the end', async () => {
  const how = await d.stop();
  return [...d.errors, ...(how === 0 ? [] : [`the daemon ended with ${how}`])];
});
lab.remove();
report.end();
process.exit();
