// A GPU that is lost in the middle of a video: its worker ends with the failing call as its last word, the next one
// goes on from the last block, and the video is what it would have been. The GPU is the simulator beside the binary.
//   node gpu.mjs [--early N] [--late N]     the kernels, counted from 1, that fail
import fs from 'node:fs';
import path from 'node:path';
import { Daemon, Lab, options, Report } from './daemon.mjs';

const { early, late } = options({ early: 200, late: 900 });
const PLUGIN = path.resolve(path.dirname(process.env.SANAD), 'libsanad_hostsim.so');
const REQUEST = { prompt: 'a lost device', seed: 3, num_frames: 13 };
const TINY = { sizes: [], size: '32x32', frames: 13, fps: 16, block_latent_frames: 2, aliases: ['tiny'] };

const report = new Report();
const lab = new Lab();

fs.writeFileSync(path.join(lab.model('causal'), 'sanad.json'), JSON.stringify(TINY));

async function make(failAt) {
  const once = path.join(lab.dir, `failed-${failAt}`);
  const env = { SANAD_CUDA_PLUGIN: PLUGIN, ...(failAt && { SANAD_HOSTSIM_FAIL: `once:${once}:${failAt}` }) };
  const d = new Daemon(lab, { args: ['--device', 'cuda', '--deterministic', 'true'], env });

  await d.start();
  const video = await d.ended((await d.create(REQUEST)).id, 300000);
  const workers = d.workers.size;

  await d.stop();
  return { video, workers, failed: fs.existsSync(once), log: d.history };
}

const whole = await make(0);

await report.run('a video on a GPU', () => (whole.video.status === 'completed' ? [] : [JSON.stringify(whole.video)]));
for (const failAt of [early, late]) {
  await report.run(`kernel ${failAt} fails`, async () => {
    const { video, workers, failed, log } = await make(failAt);
    const problems = [];

    if (!failed) {
      problems.push('nothing failed: the video has fewer kernels');
    }
    if (video.status !== 'completed' || video.sha256 !== whole.video.sha256) {
      problems.push(`another video: ${JSON.stringify(video)}`);
    }
    if (workers !== 2) {
      problems.push(`${workers} workers`);
    }
    if (!log.some((l) => /worker ended: cuda: \w+: .*; starting another/.test(l))) {
      problems.push(`nobody says which call failed: ${log.filter((l) => l.includes('worker')).join(' | ')}`);
    }
    return problems;
  });
}
report.end();
