// POST /v1/videos: every field, every way to write it, every refusal; keys that make a request mean one job.
// Jobs are made while the queue is paused and deleted again: what is tested here is what was understood.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon, ID, assertError, hasWarning, multipart, picture, run } from './harness.mjs';

let d;

before(async () => {
  d = await Daemon.start({ conf: { 'queue.per_client': '256' } });
  await d.ok('POST', '/v1/queue/pause');
});
after(() => d?.stop());

const P = { prompt: 'A calico cat', size: '64x64', num_frames: 5 };

// What POST answers; its job is removed.
async function post(options, target = '/v1/videos') {
  const r = await d.request('POST', target, options);
  if (r.status === 200 && !options.keep) {
    await d.ok('DELETE', `/v1/videos/${r.json.id}`);
  }
  return r;
}

async function accepted(fields, headers) {
  const r = await post({ json: fields, headers });
  assert.equal(r.status, 200, `${JSON.stringify(fields).slice(0, 200)}: ${r.text}`);
  return r.json;
}

async function refused(fields, code, param, status = 400, headers = {}) {
  const r = await post({ json: fields, headers });
  try {
    assertError(r, status, code, param);
  } catch (e) {
    e.message = `${JSON.stringify(fields).slice(0, 200)}: ${e.message}`;
    throw e;
  }
}

test('the answer is the video object, complete', async () => {
  const r = await post({ json: { prompt: ' A calico cat\n', seed: 7 }, keep: true });
  assert.equal(r.status, 200);
  assert.equal(r.headers.location, `/v1/videos/${r.json.id}`);
  assert.equal(r.headers['cache-control'], 'no-store');
  assert.equal(r.headers['x-content-type-options'], 'nosniff');
  assert.ok(r.headers.date);
  assert.match(r.headers['x-request-id'], /^req_/);
  assert.match(r.json.id, ID);
  const { id, created_at, queue_position, eta_s, native_size, blocks, ...rest } = r.json;
  assert.ok(Math.abs(created_at - Date.now() / 1000) < 60);
  assert.ok(Number.isInteger(queue_position) && queue_position >= 1);
  assert.ok(eta_s === null || eta_s >= 0);
  assert.ok(native_size === null || native_size === '64x64');
  assert.equal(blocks.done, 0);
  assert.equal(blocks.frames_ready, 0);
  for (const [name, value] of Object.entries({
    object: 'video',
    model: 'tiny-long',
    status: 'queued',
    progress: 0,
    completed_at: null,
    expires_at: null,
    prompt: 'A calico cat',
    size: '64x64',
    seconds: '4',
    remixed_from_video_id: null,
    error: null,
    quality: 'standard',
    media_type: 'video/mp4',
    file_name: null,
    url: null,
    inference_time_s: null,
    stage_durations: {},
    peak_memory_mb: 0,
    started_at: null,
    duration_s: 4,
    width: 64,
    height: 64,
    fps: 16,
    num_frames: 64,
    generated_frames: 65,
    num_inference_steps: 4,
    guidance_scale: 1,
    flow_shift: 7,
    motion_score: 30,
    seed: 7,
    negative_prompt: null,
    phase: 'queued',
    cancel_requested: false,
    priority: 0,
    group: null,
    tags: [],
    metadata: {},
    user: null,
    extended_from_video_id: null,
    edited_from_video_id: null,
    size_bytes: null,
    sha256: null,
    warnings: [],
  })) {
    assert.deepEqual(rest[name], value, name);
  }
  assert.ok(!('file_path' in rest));
  await d.ok('DELETE', `/v1/videos/${id}`);
});

// [fields beside the prompt, what the object then says]
const ACCEPTED = [
  [{ model: 'tiny' }, { model: 'tiny-long' }],
  [{ model: 'tiny-long' }, { model: 'tiny-long' }],
  [{ model: 'sora-2' }, { model: 'tiny-long' }],
  [{ model: 'sora-2-pro' }, { model: 'tiny-long' }],
  [{ model: 'sora-2-2025-10-06' }, { model: 'tiny-long' }],
  [{ seconds: '4' }, { seconds: '4', num_frames: 64, duration_s: 4 }],
  [{ seconds: 4 }, { seconds: '4', num_frames: 64 }],
  [{ seconds: 1.5 }, { seconds: '1.5', num_frames: 24 }],
  [{ seconds: '0.0625' }, null],
  [{ seconds: '0.063' }, { seconds: '0.063', num_frames: 1, generated_frames: 1 }],
  [{ seconds: '60' }, { seconds: '60', num_frames: 960, generated_frames: 961 }],
  [{ seconds: '2', fps: 10 }, { seconds: '2', num_frames: 20, fps: 10, generated_frames: 21 }],
  [{ num_frames: 80 }, { num_frames: 80, seconds: '5', generated_frames: 81 }],
  [{ num_frames: 81 }, { num_frames: 81, seconds: '5.063', generated_frames: 81 }],
  [{ num_frames: '80', seconds: '4' }, { num_frames: 80, seconds: '5' }],
  [{ frames: 12 }, { num_frames: 12 }],
  [{ video_frames: 12 }, { num_frames: 12 }],
  [{ num_frames: 12, frames: 12 }, { num_frames: 12 }],
  [{ num_frames: 961 }, { num_frames: 961 }],
  [{ num_frames: 1 }, { num_frames: 1, seconds: '0.063' }],
  [{ size: '128x64' }, { size: '128x64', width: 128, height: 64 }],
  [{ size: '64x128' }, { size: '64x128', width: 64, height: 128 }],
  [{ size: '720x1280' }, { size: '720x1280' }],
  [{ size: '1280x720' }, { size: '1280x720' }],
  [{ size: '1024x1792' }, { size: '1024x1792' }],
  [{ size: '1792x1024' }, { size: '1792x1024' }],
  [{ size: '1920x1088' }, { size: '1920x1088' }],
  [{ size: '66x70' }, { size: '66x70' }],
  [{ width: 96, height: 64 }, { size: '96x64' }],
  [{ width: '96', height: '64' }, { size: '96x64' }],
  [{ width: 96, height: 64, size: '96x64' }, { size: '96x64' }],
  [{ aspect_ratio: '16:9', short_edge: 90 }, { size: '160x90' }],
  [{ aspect_ratio: '9:16', short_edge: 90 }, { size: '90x160' }],
  [{ aspect_ratio: '1:1', short_edge: 128 }, { size: '128x128' }],
  [{ fps: 24, num_frames: 24 }, { fps: 24, seconds: '1' }],
  [{ fps: '23.976', num_frames: 24 }, { fps: 23.976, seconds: '1.001' }],
  [{ fps: 1, num_frames: 2 }, { fps: 1, seconds: '2' }],
  [{ fps: 60, num_frames: 60 }, { fps: 60, seconds: '1' }],
  [{ guidance_scale: 0 }, { guidance_scale: 0 }],
  [{ guidance_scale: '20' }, { guidance_scale: 20 }],
  [{ guidance_scale: 7.5 }, { guidance_scale: 7.5 }],
  [{ negative_prompt: 'blurry' }, { negative_prompt: 'blurry' }],
  [{ negative_prompt: '' }, { negative_prompt: null }],
  [{ seed: 0 }, { seed: 0 }],
  [{ seed: '12' }, { seed: 12 }],
  [{ seed: 999999999999999 }, { seed: 999999999999999 }],
  [{ flow_shift: 0.1 }, { flow_shift: 0.1 }],
  [{ flow_shift: 30 }, { flow_shift: 30 }],
  [{ motion_score: 0 }, { motion_score: 0 }],
  [{ motion_score: 100 }, { motion_score: 100 }],
  [{ metadata: { shot: 's010' } }, { metadata: { shot: 's010' } }],
  [{ metadata: null, tags: null, user: null, group: null }, { metadata: {}, tags: [] }],
  [{ tags: ['ep3', 'a.b:c/d-e_f'] }, { tags: ['ep3', 'a.b:c/d-e_f'] }],
  [{ group: 'g'.repeat(64) }, { group: 'g'.repeat(64) }],
  [{ user: 'u'.repeat(256) }, { user: 'u'.repeat(256) }],
  [{ priority: 100 }, { priority: 100 }],
  [{ priority: -100 }, { priority: -100 }],
  [{ priority: 'low' }, { priority: -50 }],
  [{ priority: 'normal' }, { priority: 0 }],
  [{ priority: 'high' }, { priority: 50 }],
  [{ cancel_after_s: 86400 }, {}],
  [{ extra_body: { seed: 5 } }, { seed: 5 }],
  [{ seed: 4, extra_body: { seed: 5 } }, { seed: 5 }],
  [{ seed: 4, extra_json: '{"seed": 5}' }, { seed: 5 }],
  [{ extra_params: { seed: 5 } }, { seed: 5 }],
  [{ extra_params: '{"seed": 5}', seed: 5 }, { seed: 5 }],
  [{ n: 1, num_outputs_per_prompt: 1 }, {}],
];

test('fields and aliases', async () => {
  for (const [fields, expected] of ACCEPTED) {
    if (expected === null) {
      await refused({ prompt: 'x', ...fields }, 'invalid_seconds', 'seconds');
      continue;
    }
    const v = await accepted({ prompt: 'x', ...fields });
    for (const [name, value] of Object.entries(expected)) {
      assert.deepEqual(v[name], value, `${name} of ${JSON.stringify(fields)}`);
    }
  }
});

test('seeds are exact to the last digit', async () => {
  for (const seed of [9007199254740991, 9007199254740990, 8123456789012345, 4611686018427387]) {
    assert.equal((await accepted({ ...P, seed })).seed, seed);
    assert.equal((await accepted({ ...P, seed: String(seed) })).seed, seed);
  }
});

test('a seed of -1 or none is random, and told', async () => {
  const seeds = new Set();
  for (const fields of [{ seed: -1 }, { seed: '-1' }, {}, {}]) {
    const { seed } = await accepted({ ...P, ...fields });
    assert.ok(Number.isSafeInteger(seed) && seed >= 0);
    seeds.add(seed);
  }
  assert.equal(seeds.size, 4);
});

test('what has no effect is told', async () => {
  for (const [name, value] of Object.entries({
    quality: 'hd',
    output_quality: 80,
    output_compression: 10,
    generator_device: 'cpu',
    enable_teacache: true,
    guidance_scale_2: 3,
    boundary_ratio: 0.9,
    true_cfg_scale: 4,
    max_sequence_length: 512,
    return_stage_metrics: true,
    generate_sound: false,
    enable_frame_interpolation: false,
    enable_upscaling: false,
    n: 1,
    num_outputs_per_prompt: 1,
    perf_dump_path: '/tmp/x',
    frame_interpolation_exp: 1,
    upscaling_scale: 2,
  })) {
    const v = await accepted({ ...P, [name]: value });
    assert.ok(hasWarning(v, 'ignored_parameter', name), `${name}: ${JSON.stringify(v.warnings)}`);
    assert.equal(v.warnings.length, 1);
  }
  for (const name of ['preencode_mp4', 'preencode_batch_frames', 'video_codec_options']) {
    const v = await accepted({ ...P, extra_params: { [name]: 1 } });
    assert.equal(v.warnings.length, 1, name);
    assert.equal(v.warnings[0].code, 'ignored_parameter');
    assert.match(v.warnings[0].param, new RegExp(`(^|[.[])${name}\\b`));
  }
});

test('a prompt longer than the encoder takes is a warning', async () => {
  const v = await d.create({ prompt: 'cat dog bird '.repeat(200) });
  await d.ok('POST', '/v1/queue/resume');
  const done = await d.over(v.id);
  await d.ok('POST', '/v1/queue/pause');
  assert.equal(done.status, 'completed');
  assert.ok(hasWarning(done, 'prompt_truncated'), JSON.stringify(done.warnings));
  await d.ok('DELETE', `/v1/videos/${v.id}`);
});

// [fields beside a good prompt, code, parameter]
const REFUSED = [
  [{ prompt: undefined }, 'missing_required_parameter', 'prompt'],
  [{ prompt: null }, 'missing_required_parameter', 'prompt'],
  [{ prompt: '' }, 'missing_required_parameter', 'prompt'],
  [{ prompt: ' \n\t ' }, 'missing_required_parameter', 'prompt'],
  [{ prompt: 7 }, 'invalid_type', 'prompt'],
  [{ prompt: ['a'] }, 'invalid_type', 'prompt'],
  [{ prompt: 'x'.repeat(32001) }, 'string_above_max_length', 'prompt'],
  [{ prompt: '\u{1f408}'.repeat(32001) }, 'string_above_max_length', 'prompt'],
  [{ negative_prompt: 'x'.repeat(32001) }, 'string_above_max_length', 'negative_prompt'],
  ...['0', '0.0', '-1', '61', '60.001', '4s', '', '1e1', '4.0001', '12345', ' 4', 'NaN'].map(
    (seconds) => (seconds === '' ? null : [{ seconds }, 'invalid_seconds', 'seconds']),
  ),
  [{ seconds: 0 }, 'invalid_seconds', 'seconds'],
  [{ seconds: -4 }, 'invalid_seconds', 'seconds'],
  [{ seconds: 1e9 }, 'invalid_seconds', 'seconds'],
  [{ seconds: true }, 'invalid_type', 'seconds'],
  ...['1281x720', '64', 'x', '64x', '64x64x64', '-64x64', '64X64 ', '1e2x64', 'big'].map(
    (size) => [{ size }, 'invalid_size', 'size'],
  ),
  ...['1922x1080', '64x130', '130x64', '1920x1920'].map((size) => [
    { size },
    'unsupported_size',
    'size',
  ]),
  [{ size: 64 }, 'invalid_type', 'size'],
  [{ size: undefined, width: 64 }, 'missing_required_parameter', 'height'],
  [{ size: undefined, height: 64 }, 'missing_required_parameter', 'width'],
  [{ width: 96, height: 64 }, 'conflicting_parameters', null],
  [{ aspect_ratio: '16:9' }, 'conflicting_parameters', null],
  [{ size: undefined, aspect_ratio: '16-9' }, 'invalid_value', 'aspect_ratio'],
  [{ size: undefined, aspect_ratio: '0:1' }, 'invalid_value', 'aspect_ratio'],
  [{ fps: '1e1000' }, null, 'fps'],
  ...[0, 0.9, 60.5, -1].map((fps) => [{ fps }, 'invalid_value', 'fps']),
  ...[0, -1, 962].map((num_frames) => [{ num_frames }, 'invalid_value', 'num_frames']),
  [{ num_frames: 1.5 }, null, 'num_frames'],
  [{ num_frames: 'ten' }, null, 'num_frames'],
  [{ num_frames: '0x10' }, null, 'num_frames'],
  [{ num_frames: 8, frames: 12 }, 'conflicting_parameters', null],
  ...[0, 201, -1].map((num_inference_steps) => [
    { num_inference_steps },
    'invalid_value',
    'num_inference_steps',
  ]),
  ...[-0.1, 20.1].map((guidance_scale) => [{ guidance_scale }, 'invalid_value', 'guidance_scale']),
  [{ seed: -2 }, 'invalid_value', 'seed'],
  [{ seed: 9007199254740992 }, null, 'seed'],
  [{ seed: '9007199254740993' }, null, 'seed'],
  [{ seed: 1.5 }, null, 'seed'],
  [{ seed: 'abc' }, null, 'seed'],
  [{ seed: {} }, 'invalid_type', 'seed'],
  ...[0, 0.05, 31].map((flow_shift) => [{ flow_shift }, 'invalid_value', 'flow_shift']),
  ...[-1, 101].map((motion_score) => [{ motion_score }, 'invalid_value', 'motion_score']),
  ...[-101, 101, 'urgent'].map((priority) => [{ priority }, 'invalid_value', 'priority']),
  ...[0, 86401, -5].map((cancel_after_s) => [{ cancel_after_s }, 'invalid_value', 'cancel_after_s']),
  [{ metadata: 'x' }, 'invalid_type', 'metadata'],
  [{ metadata: ['x'] }, 'invalid_type', 'metadata'],
  [{ metadata: { a: 'x'.repeat(513) } }, 'string_above_max_length', /^metadata/],
  [{ metadata: { ['k'.repeat(65)]: 'x' } }, null, /^metadata/],
  [{ metadata: Object.fromEntries([...Array(17).keys()].map((k) => [k, 'x'])) }, 'invalid_value', 'metadata'],
  [{ tags: 'x' }, 'invalid_type', 'tags'],
  [{ tags: ['a b'] }, 'invalid_value', /^tags/],
  [{ tags: ['x'.repeat(65)] }, null, /^tags/],
  [{ tags: [7] }, 'invalid_type', /^tags/],
  [{ tags: Array(17).fill('x').map((t, i) => t + i) }, 'invalid_value', 'tags'],
  [{ group: 'g'.repeat(65) }, 'string_above_max_length', 'group'],
  [{ user: 'u'.repeat(257) }, 'string_above_max_length', 'user'],
  ...[
    { lora: 'x' },
    { generate_sound: true },
    { audio_reference: 'x' },
    { video_reference: 'x' },
    { control_reference: 'x' },
    { n: 2 },
    { enable_frame_interpolation: true },
    { enable_upscaling: true },
    { output_path: '/tmp/x' },
    { diffusers_kwargs: {} },
    { character_ids: ['x'] },
  ].map((fields) => [fields, 'unsupported_parameter', Object.keys(fields)[0]]),
  [{ promt: 'x' }, 'unknown_parameter', 'promt'],
  [{ extra_body: { promt: 'x' } }, 'unknown_parameter', 'promt'],
  [{ extra_body: 'x' }, null, 'extra_body'],
  [{ seed: 4, extra_params: { seed: 5 } }, 'conflicting_parameters', null],
].filter(Boolean);

test('refusals name the parameter', async () => {
  for (const [fields, code, param] of REFUSED) {
    const json = { ...P, ...fields };
    if ('seconds' in fields) {
      delete json.num_frames;
    }
    const r = await post({ json });
    const what = `${JSON.stringify(fields).slice(0, 100)}: ${r.text}`;
    assert.equal(r.status, 400, what);
    if (code) {
      assert.equal(r.json.error.code, code, what);
    } else {
      assert.match(r.json.error.code, /^(invalid_(type|value)|string_above_max_length)$/, what);
    }
    if (param instanceof RegExp) {
      assert.match(r.json.error.param, param, what);
    } else if (param !== null) {
      assert.equal(r.json.error.param, param, what);
    }
    assertError(r, 400, r.json.error.code, r.json.error.param);
  }
  await refused({ ...P, model: 'sora-9' }, 'model_not_found', 'model', 404);
});

test('a side of less than 64', async () => {
  for (const size of ['62x64', '64x62', '62x62', '32x32', '0x0']) {
    const r = await post({ json: { prompt: 'x', size } });
    assert.equal(r.status, 400, `${size}: ${r.text}`);
    assert.match(r.json.error.code, /^(invalid|unsupported)_size$/);
    assert.equal(r.json.error.param, 'size');
  }
});

test('the longest prompt is taken; characters are counted, not bytes', async () => {
  const prompt = '\u{1f408}'.repeat(32000);
  assert.equal((await accepted({ ...P, prompt })).prompt, prompt);
});

test('unknown parameters are only a warning where the client wants it', async () => {
  const v = await accepted({ ...P, promt: 'x' }, { prefer: 'handling=lenient' });
  assert.ok(hasWarning(v, 'ignored_parameter', 'promt'), JSON.stringify(v.warnings));
  await refused({ ...P, lora: 'x' }, 'unsupported_parameter', 'lora', 400, {
    prefer: 'handling=lenient',
  });
});

test('JSON that is none', async () => {
  const bad = {
    'invalid_json: cut off': '{"prompt":"x"',
    'invalid_json: no object': '["x"]',
    'invalid_json: a string': '"x"',
    'invalid_json: two': '{"prompt":"x"}{"prompt":"x"}',
    'invalid_json: a name twice': '{"prompt":"x","prompt":"y"}',
    'invalid_json: too deep': `{"prompt":"x","metadata":${'['.repeat(40)}${']'.repeat(40)}}`,
    'invalid_json: not UTF-8': Buffer.from('{"prompt":"\xff\xfe"}', 'latin1'),
    'invalid_json: NaN': '{"prompt":"x","seed":NaN}',
  };
  for (const [what, body] of Object.entries(bad)) {
    const r = await post({ body, headers: { 'content-type': 'application/json' } });
    assert.equal(r.status, 400, `${what}: ${r.text}`);
    assert.equal(r.json.error.code, what.split(':')[0], what);
  }
  const nul = await post({ json: { ...P, prompt: 'a\0b' } });
  assert.equal(nul.status, 400);
});

test('all encodings mean the same', async () => {
  const nested = { ...P, seed: 3, metadata: { shot: 's010' }, tags: ['a', 'b'] };
  const flat = [
    ['tags[]', 'a'],
    ['seed', '3'],
    ['metadata[shot]', 's010'],
    ['num_frames', '5'],
    ['tags[]', 'b'],
    ['size', '64x64'],
    ['prompt', 'A calico cat'],
    ['user', ''],
  ];
  const text = [
    ...Object.entries(P),
    ['seed', '3'],
    ['metadata', '{"shot":"s010"}'],
    ['tags', '["a","b"]'],
  ];
  const objects = [];
  for (const options of [
    { json: nested },
    { form: flat },
    { urlencoded: flat },
    { form: text },
    { body: JSON.stringify(nested), headers: { 'content-type': 'application/json; charset=utf-8' } },
    { body: JSON.stringify(nested), headers: { 'content-type': 'Application/JSON' } },
  ]) {
    const r = await post(options);
    assert.equal(r.status, 200, r.text);
    const { id, created_at, queue_position, eta_s, native_size, blocks, ...rest } = r.json;
    assert.ok(id && created_at && queue_position !== undefined);
    assert.ok(eta_s !== undefined && native_size !== undefined && blocks !== undefined);
    objects.push(rest);
  }
  assert.deepEqual(objects[0].metadata, { shot: 's010' });
  assert.deepEqual(objects[0].tags, ['a', 'b']);
  for (const o of objects) {
    assert.deepEqual(o, objects[0]);
  }
});

test('booleans and numbers in forms are strict', async () => {
  for (const value of ['true', 'false', '1', '0']) {
    assert.equal((await post({ form: { ...P, enable_teacache: value } })).status, 200, value);
  }
  for (const [name, value] of [
    ['enable_upscaling', 'yes'],
    ['generate_sound', '2'],
    ['seed', '1.5'],
    ['seed', '0x10'],
    ['seed', '1 '],
    ['fps', '16fps'],
    ['num_frames', '5.0.0'],
  ]) {
    const r = await post({ form: { ...P, [name]: value } });
    assert.equal(r.status, 400, `${name}=${value}: ${r.text}`);
    assert.equal(r.json.error.param, name);
  }
});

test('multipart that is none', async () => {
  const type = 'multipart/form-data; boundary=XX';
  const part = (name, value) => `--XX\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  for (const [what, body, contentType, param = null] of [
    ['no end', part('prompt', 'x'), type],
    ['a scalar twice', `${part('prompt', 'x')}${part('prompt', 'y')}--XX--\r\n`, type, 'prompt'],
    ['no boundary', `${part('prompt', 'x')}--XX--\r\n`, 'multipart/form-data'],
    ['another boundary', `${part('prompt', 'x')}--XX--\r\n`, 'multipart/form-data; boundary=YY'],
    ['no name', '--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--\r\n', type],
    ['65 parts', `${[...Array(65).keys()].map((i) => part(`metadata[${i}]`, 'x')).join('')}--XX--\r\n`, type],
    ['empty', '', type],
  ]) {
    const r = await post({ body, headers: { 'content-type': contentType } });
    assert.equal(r.status, 400, `${what}: ${r.text}`);
    assertError(r, 400, 'invalid_multipart', param);
  }
  const tooLong = await post({ form: { ...P, user: 'u'.repeat(70000) } });
  assert.ok([400, 413].includes(tooLong.status));
  const good = await post({
    body: `preamble\r\n--XX\r\ncontent-disposition: form-data; name=prompt\r\n\r\nx y\r\n${part('size', '64x64')}--XX--\r\nepilogue`,
    headers: { 'content-type': 'multipart/form-data; boundary="XX"' },
  });
  assert.equal(good.status, 200, good.text);
  assert.equal(good.json.prompt, 'x y');
});

test('other encodings', async () => {
  for (const type of ['text/plain', 'application/xml', 'application/jsonx', 'multipart/mixed; boundary=X']) {
    const r = await post({ body: '{"prompt":"x"}', headers: { 'content-type': type } });
    assert.equal(r.status, 415, `${type}: ${r.text}`);
    assertError(r, 415, 'unsupported_media_type');
  }
  // Without a type, and with the one that curl -d gives, an object is taken for what it is.
  for (const headers of [{}, { 'content-type': 'application/x-www-form-urlencoded' }]) {
    const r = await post({ body: ' {"prompt":"x"}', headers });
    assert.equal(r.status, 200, r.text);
    assert.equal(r.json.prompt, 'x');
  }
  assertError(await post({ body: 'prompt=x' }), 415, 'unsupported_media_type');
});

test('deadline in the header', async () => {
  assert.equal((await post({ json: P, headers: { 'cancel-after': '90s' } })).status, 200);
  const r = await post({ json: P, headers: { 'cancel-after': 'soon' } });
  assert.equal(r.status, 400);
});

test('a deadline that passes in the queue', async () => {
  const v = await d.create({ cancel_after_s: 1 });
  const failed = await d.over(v.id);
  assert.equal(failed.status, 'failed');
  assert.equal(failed.error.code, 'deadline_exceeded');
  await d.ok('DELETE', `/v1/videos/${v.id}`);
});

test('the examples of other servers, through curl', async (t) => {
  // LongSANA's steps are a list that cannot be changed; the first example wants 40.
  const wan = await Daemon.start({ model: 'tiny-480p' });
  t.after(() => wan.stop());
  await wan.ok('POST', '/v1/queue/pause');
  const png = picture('input.png');
  const B = wan.url;
  for (const [args, expected] of [
    [
      [
        ...['-s', `${B}/v1/videos`, '-F', 'prompt=A cinematic tracking shot of a mountain lake at sunrise'],
        ...['-F', 'width=1280', '-F', 'height=720', '-F', 'num_frames=80', '-F', 'fps=16'],
        ...['-F', 'num_inference_steps=40'],
      ],
      { size: '1280x720', num_frames: 80, seconds: '5', fps: 16, num_inference_steps: 40 },
    ],
    [
      [
        ...['-s', `${B}/v1/videos`, '-F', 'prompt=x', '-F', `input_reference=@${png}`],
        ...['-F', 'extra_params={"preencode_mp4": true}'],
      ],
      { prompt: 'x', size: '64x64' },
    ],
    [
      [
        ...['-sS', '-X', 'POST', `${B}/v1/videos`, '-H', 'Content-Type: application/json'],
        ...['-H', 'Authorization: Bearer k', '-d', '{"prompt":"A calico cat","size":"1280x720"}'],
      ],
      { prompt: 'A calico cat', size: '1280x720', seconds: '4' },
    ],
  ]) {
    const { status, out, err } = await run('curl', args);
    assert.equal(status, 0, err);
    const v = JSON.parse(out);
    assert.match(v.id ?? '', ID, String(out));
    for (const [name, value] of Object.entries(expected)) {
      assert.deepEqual(v[name], value, name);
    }
  }
});

// ---- one request, one job ----

async function jobsOf(user) {
  return (await d.ok('GET', `/v1/videos?limit=100&user=${user}`)).data.map((v) => v.id);
}

test('the same key is the same job', async () => {
  const json = { ...P, user: 'same' };
  const headers = { 'idempotency-key': 'key-1' };
  const first = await d.post('/v1/videos', json, { headers });
  assert.equal(first.status, 200);
  assert.equal(first.headers['idempotent-replayed'], undefined);
  for (const options of [{ json }, { form: json }, { urlencoded: json }]) {
    const again = await d.request('POST', '/v1/videos', { ...options, headers });
    assert.equal(again.status, 200, again.text);
    assert.equal(again.headers['idempotent-replayed'], 'true');
    assert.equal(again.headers.location, `/v1/videos/${first.json.id}`);
    assert.equal(again.json.id, first.json.id);
    assert.equal(again.json.seed, first.json.seed);
  }
  assert.deepEqual(await jobsOf('same'), [first.json.id]);
});

test('the same key for something else is refused', async () => {
  const headers = { 'idempotency-key': 'key-2' };
  const json = { ...P, user: 'reused' };
  await d.ok('POST', '/v1/videos', { json, headers });
  for (const change of [{ prompt: 'A dog' }, { seed: 1 }, { size: '66x64' }, { priority: 3 }]) {
    assertError(
      await d.post('/v1/videos', { ...json, ...change }, { headers }),
      422,
      'idempotency_key_reused',
    );
  }
  assert.equal((await jobsOf('reused')).length, 1);
});

test('a key belongs to its client', async () => {
  const json = { ...P, user: 'scope' };
  const ids = new Set();
  for (const authorization of ['Bearer a', 'Bearer b', undefined]) {
    const headers = { 'idempotency-key': 'key-3', ...(authorization && { authorization }) };
    ids.add((await d.ok('POST', '/v1/videos', { json, headers })).id);
  }
  assert.equal(ids.size, 3);
});

test('pictures are part of the request', async () => {
  const headers = { 'idempotency-key': 'key-4' };
  const { readFileSync } = await import('node:fs');
  const a = new File([readFileSync(picture('a.png'))], 'a.png');
  const b = new File([readFileSync(picture('b.png', '64x64', 'smptebars'))], 'a.png');
  const first = await d.ok('POST', '/v1/videos', { form: { ...P, input_reference: a }, headers });
  const again = await d.ok('POST', '/v1/videos', { form: { ...P, input_reference: a }, headers });
  assert.equal(again.id, first.id);
  assertError(
    await d.request('POST', '/v1/videos', { form: { ...P, input_reference: b }, headers }),
    422,
    'idempotency_key_reused',
  );
});

test('keys have a form', async () => {
  for (const key of ['k'.repeat(256), 'a\tb', 'ä']) {
    const r = await d.request('POST', '/v1/videos', {
      json: P,
      headers: { 'idempotency-key': Buffer.from(key).toString('latin1') },
    });
    assert.equal(r.status, 400, r.text);
  }
  assert.equal((await post({ json: P, headers: { 'idempotency-key': 'k'.repeat(255) } })).status, 200);
});

test('twenty at once with one key make one job', async () => {
  const form = await multipart({ ...P, user: 'twenty' });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () =>
      d.request('POST', '/v1/videos', {
        body: form.body,
        headers: { 'content-type': form.type, 'idempotency-key': 'key-20' },
      }),
    ),
  );
  const made = answers.filter((r) => r.status === 200);
  for (const r of answers.filter((a) => a.status !== 200)) {
    assertError(r, 409, 'idempotency_in_progress');
  }
  assert.equal(new Set(made.map((r) => r.json.id)).size, 1);
  assert.equal(made.filter((r) => r.headers['idempotent-replayed'] !== 'true').length, 1);
  assert.deepEqual(await jobsOf('twenty'), [made[0].json.id]);
});

test('a repeated request of the SDK is not a second job, another client’s is', async () => {
  const json = { ...P, user: 'retry' };
  const key = { authorization: 'Bearer r' };
  const first = await d.ok('POST', '/v1/videos', { json, headers: { ...key, 'x-stainless-retry-count': '0' } });
  const other = await d.ok('POST', '/v1/videos', {
    json,
    headers: { authorization: 'Bearer s', 'x-stainless-retry-count': '1' },
  });
  assert.notEqual(other.id, first.id);
  const fresh = await d.ok('POST', '/v1/videos', { json, headers: { ...key, 'x-stainless-retry-count': '0' } });
  assert.notEqual(fresh.id, first.id);
  assert.equal((await jobsOf('retry')).length, 3);
});

test('keys and queued jobs survive a restart', async () => {
  const json = { ...P, user: 'restart' };
  const headers = { 'idempotency-key': 'key-5' };
  const first = await d.ok('POST', '/v1/videos', { json, headers });
  await d.terminate();
  await d.launch();
  await d.ok('POST', '/v1/queue/resume');
  const again = await d.post('/v1/videos', json, { headers });
  assert.equal(again.status, 200);
  assert.equal(again.headers['idempotent-replayed'], 'true');
  assert.equal(again.json.id, first.id);
  assertError(
    await d.post('/v1/videos', { ...json, seed: 9 }, { headers }),
    422,
    'idempotency_key_reused',
  );
  const done = await d.over(first.id, 120000);
  assert.equal(done.status, 'completed');
  assert.equal((await d.post('/v1/videos', json, { headers })).json.status, 'completed');
});
