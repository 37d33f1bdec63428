// Reference pictures: what is taken in which form, and what is refused before anything is decoded.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import zlib from 'node:zlib';
import { Daemon, assertError, picture } from './harness.mjs';

let d;
const files = {};

before(async () => {
  d = await Daemon.start();
  for (const kind of ['png', 'jpg', 'webp']) {
    files[kind] = fs.readFileSync(picture(`reference.${kind}`, '96x64'));
  }
});
after(() => d?.stop());

const P = { prompt: 'A calico cat', size: '64x64', num_frames: 5, seed: 1 };
const MIME = { png: 'image/png', jpg: 'image/jpeg', webp: 'image/webp' };

function dataUrl(bytes, type = 'image/png') {
  return `data:${type};base64,${bytes.toString('base64')}`;
}

// Makes the video; its file's name for its bytes.
async function result(options) {
  const v = await d.over((await d.ok('POST', '/v1/videos', options)).id);
  assert.equal(v.status, 'completed', JSON.stringify(v.error));
  return d.etag(v.id);
}

async function refused(options, code, param = 'input_reference') {
  assertError(await d.request('POST', '/v1/videos', options), 400, code, param);
}

// A PNG's head with these sides; sound but for the missing picture.
function pngHead(width, height) {
  const chunk = (type, data) => {
    const out = Buffer.alloc(12 + data.length);
    out.writeUInt32BE(data.length, 0);
    out.write(type, 4, 'latin1');
    data.copy(out, 8);
    out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
    return out;
  };
  const ihdr = Buffer.alloc(13);
  ihdr.writeUInt32BE(width, 0);
  ihdr.writeUInt32BE(height, 4);
  ihdr.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', ihdr),
    chunk('IDAT', zlib.deflateSync(Buffer.alloc(64))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function crc32(bytes) {
  let c = ~0;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) {
      c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    }
  }
  return ~c >>> 0;
}

test('every form of a picture gives the same video, and another than none', async () => {
  const none = await result({ json: P });
  for (const [kind, bytes] of Object.entries(files)) {
    const file = await result({ form: { ...P, input_reference: new File([bytes], `a.${kind}`) } });
    assert.notEqual(file, none, kind);
    const url = dataUrl(bytes, MIME[kind]);
    for (const options of kind === 'png'
      ? [
          { json: { ...P, input_reference: { image_url: url } } },
          { json: { ...P, input_reference: url } },
          { json: { ...P, input_reference: JSON.stringify({ image_url: url }) } },
          { json: { ...P, image_reference: { image_url: url } } },
          { json: { ...P, image_reference: JSON.stringify({ image_url: url }) } },
          { json: { ...P, reference_url: url } },
          { form: { ...P, 'input_reference[image_url]': url } },
          { form: { ...P, input_reference: url } },
          { urlencoded: { ...P, 'input_reference[image_url]': url } },
        ]
      : [{ json: { ...P, input_reference: url } }]) {
      assert.equal(await result(options), file, JSON.stringify(options).slice(0, 120));
    }
  }
});

test('the bytes count, not what the client calls them', async () => {
  const right = await result({ form: { ...P, input_reference: new File([files.jpg], 'a.jpg') } });
  for (const [name, type] of [
    ['a.png', 'image/png'],
    ['a.bin', 'application/octet-stream'],
    ['a', 'text/plain'],
    ['../../../etc/passwd', 'image/gif'],
  ]) {
    const file = new File([files.jpg], name, { type });
    assert.equal(await result({ form: { ...P, input_reference: file } }), right, name);
  }
});

test('what is no picture', async () => {
  const text = Buffer.from('this is no picture, although it is long enough to be looked at');
  const gif = Buffer.from('GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;', 'latin1');
  for (const bytes of [text, gif, Buffer.alloc(0), files.png.subarray(0, 12), Buffer.from('<svg/>')]) {
    for (const options of [
      { form: { ...P, input_reference: new File([bytes], 'a.png') } },
      { json: { ...P, input_reference: dataUrl(bytes) } },
    ]) {
      const r = await d.request('POST', '/v1/videos', options);
      assertError(r, 400, r.json.error.code, 'input_reference');
      assert.match(r.json.error.code, /^invalid_(image|input_reference)$/);
    }
  }
});

test('a picture whose pixels are broken', async () => {
  // Its head is sound, so this shows at the latest in the worker; either way the daemon goes on.
  const broken = Buffer.from(files.png);
  broken.fill(0x55, 60);
  const r = await d.request('POST', '/v1/videos', {
    form: { ...P, input_reference: new File([broken], 'a.png') },
  });
  if (r.status === 200) {
    const v = await d.over(r.json.id);
    assert.equal(v.status, 'failed');
    assert.equal(typeof v.error.code, 'string');
    assert.ok(!v.error.message.includes(d.dir), v.error.message);
  } else {
    assertError(r, 400, 'invalid_image', 'input_reference');
  }
  assert.equal((await d.completed()).status, 'completed');
});

test('sides and areas', async () => {
  for (const [w, h, code] of [
    [31, 64, 'invalid_image'],
    [64, 31, 'invalid_image'],
    [8193, 64, 'image_too_large'],
    [64, 8193, 'image_too_large'],
    [8192, 8192, 'image_too_large'],
    [6400, 6251, 'image_too_large'],
    [0, 64, 'invalid_image'],
    [0x7fffffff, 0x7fffffff, 'image_too_large'],
  ]) {
    const r = await d.request('POST', '/v1/videos', {
      form: { ...P, input_reference: new File([pngHead(w, h)], 'a.png') },
    });
    assert.equal(r.status, 400, `${w}x${h}: ${r.text}`);
    if (w > 0 && w !== 0x7fffffff) {
      assert.equal(r.json.error.code, code, `${w}x${h}: ${r.text}`);
    }
    assert.equal(r.json.error.param, 'input_reference');
  }
});

test('references that are none', async () => {
  for (const [input_reference, code] of [
    ['data:image/png;base64,@@@@', 'invalid_input_reference'],
    ['data:image/png;base64,iVBO Rw0K', 'invalid_input_reference'],
    ['data:image/png,abc', 'invalid_input_reference'],
    [`data:text/plain;base64,${files.png.toString('base64')}`, 'invalid_input_reference'],
    ['data:', 'invalid_input_reference'],
    ['file:///etc/passwd', 'invalid_input_reference'],
    ['/etc/passwd', 'invalid_input_reference'],
    ['../a.png', 'invalid_input_reference'],
    ['ftp://example.com/a.png', 'invalid_input_reference'],
    ['https://example.com/a.png', 'url_not_allowed'],
    ['http://127.0.0.1/a.png', 'url_not_allowed'],
    [{ image_url: 'https://example.com/a.png' }, 'url_not_allowed'],
    [{ image_url: 'file:///etc/passwd' }, 'invalid_input_reference'],
    [{ file_id: 'file-1' }, 'unsupported_parameter'],
    [{}, 'invalid_value'],
    [{ image_url: dataUrl(files.png), file_id: 'file-1' }, 'invalid_value'],
    [{ picture: 'x' }, 'invalid_value'],
    [7, 'invalid_type'],
    [['a'], 'invalid_type'],
  ]) {
    const r = await d.request('POST', '/v1/videos', { json: { ...P, input_reference } });
    const what = `${JSON.stringify(input_reference).slice(0, 80)}: ${r.text}`;
    assert.equal(r.status, 400, what);
    assert.equal(r.json.error.code, code, what);
    assert.match(r.json.error.param, /^input_reference/, what);
  }
  await refused({ form: { ...P, 'input_reference[file_id]': 'x' } }, 'unsupported_parameter', 'input_reference');
});

test('only one reference', async () => {
  const url = dataUrl(files.png);
  const r = await d.request('POST', '/v1/videos', {
    json: { ...P, input_reference: url, reference_url: url },
  });
  assert.equal(r.status, 400);
  assert.equal(r.json.error.code, 'conflicting_parameters');
});

test('a picture that is too large', async () => {
  const bytes = Buffer.concat([files.png, Buffer.alloc(20 << 20)]);
  const upload = await d.request('POST', '/v1/videos', {
    form: { ...P, input_reference: new File([bytes], 'a.png') },
  });
  assertError(upload, 413, 'payload_too_large', 'input_reference');
  const url = `data:image/png;base64,${'A'.repeat(20971520)}`;
  const r = await d.request('POST', '/v1/videos', { json: { ...P, input_reference: url } });
  assert.equal(r.status, 400);
  assert.equal(r.json.error.code, 'invalid_input_reference');
});

test('nothing is left of what was refused or is over', async () => {
  const left = fs
    .readdirSync(d.data, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile() && fs.statSync(`${f.parentPath ?? f.path}/${f.name}`).size > 5 << 20);
  assert.deepEqual(left.map((f) => f.name), []);
});
