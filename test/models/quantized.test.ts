import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { AutoModelForCausalLM } from '../../src/models/auto.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { openGguf } from '../../src/models/gguf.ts';
import { convertToGguf } from '../../src/models/gguf-convert.ts';
import { savePretrained } from '../../src/models/pretrained.ts';
import { BitsAndBytesConfig, getMemoryFootprint } from '../../src/quant/bnb-config.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { Linear8bitLt } from '../../src/quant/linear-8bit.ts';
import { loadFile, saveFile } from '../../src/tensor/safetensors.ts';

const llama = join(import.meta.dirname, '../peers/01_models/llama');
const PATH = 'model.layers.0.mlp.up_proj';
const nf4 = new BitsAndBytesConfig({
  loadIn4bit: true,
  bnb4bitQuantType: 'nf4',
  bnb4bitUseDoubleQuant: true,
});
const int8 = new BitsAndBytesConfig({ loadIn8bit: true });

const logitsOf = (model: CausalLM) =>
  tf.tidy(() =>
    Array.from(model.forward(tf.tensor2d([[1, 5, 9, 2]], undefined, 'int32')).logits.dataSync()),
  );

describe('Quantized checkpoints', () => {
  let folder = '';
  before(() => setBackend('auto'));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'quantized-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  for (const [name, config] of Object.entries({ nf4, int8 })) {
    it(`come back bit for bit, ${name}`, async () => {
      const model = await AutoModelForCausalLM.fromPretrained(llama, {
        quantizationConfig: config,
      });
      savePretrained(model, folder);
      const back = await AutoModelForCausalLM.fromPretrained(folder);
      expect(back.getSubmodule(PATH)).to.be.instanceOf(config === nf4 ? Linear4bit : Linear8bitLt);
      expect(logitsOf(back)).to.deep.equal(logitsOf(model));
      expect(getMemoryFootprint(back)).to.equal(getMemoryFootprint(model));
      const again = join(folder, 'again');
      savePretrained(back, again);
      const [first, second] = [folder, again].map((at) => loadFile(join(at, 'model.safetensors')));
      expect([...second!]).to.deep.equal([...first!]);
      model.dispose();
      back.dispose();
    });
  }

  it("hold what transformers' config.json and state dict hold", async () => {
    const model = await AutoModelForCausalLM.fromPretrained(llama, { quantizationConfig: nf4 });
    savePretrained(model, folder);
    const json = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    expect(json.quantization_config).to.include({
      quant_method: 'bitsandbytes',
      load_in_4bit: true,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
    });
    const tensors = loadFile(join(folder, 'model.safetensors'));
    const parts = [...tensors.keys()].filter((key) => key.startsWith(`${PATH}.`)).sort();
    expect(parts.map((key) => key.slice(PATH.length + 1))).to.deep.equal([
      'weight',
      'weight.absmax',
      'weight.nested_absmax',
      'weight.nested_quant_map',
      'weight.quant_map',
      'weight.quant_state.bitsandbytes__nf4',
    ]);
    const size =
      model.config.modelType === 'llama'
        ? model.config.hiddenSize * model.config.intermediateSize
        : 0;
    expect(tensors.get(`${PATH}.weight`)!.shape).to.deep.equal([size / 2, 1]);
    model.dispose();
  });

  it('become GGUF files by their unpacked weights', async () => {
    const model = await AutoModelForCausalLM.fromPretrained(llama, { quantizationConfig: nf4 });
    savePretrained(model, folder);
    const path = join(folder, 'model.gguf');
    await convertToGguf(folder, path, { type: 'f32' });
    const file = openGguf(path);
    const weight = (model.getSubmodule(PATH) as Linear4bit).dequantize();
    expect(Array.from(file.read('blk.0.ffn_up.weight'))).to.deep.equal(
      Array.from(weight.dataSync()),
    );
    file.close();
    model.dispose();
  });

  it('are refused where a part is missing or does not fit', async () => {
    const model = await AutoModelForCausalLM.fromPretrained(llama, { quantizationConfig: nf4 });
    savePretrained(model, folder);
    model.dispose();
    const path = join(folder, 'model.safetensors');
    const tensors = loadFile(path);
    const failure = () =>
      AutoModelForCausalLM.fromPretrained(folder).then(String, (e: Error) => e.message);
    const without = new Map(tensors);
    without.delete(`${PATH}.weight.absmax`);
    saveFile(without, path);
    expect(await failure()).to.equal("Tensor 'absmax' of a 4-bit weight must be float32 or bytes");
    const cut = new Map(tensors);
    const weight = tensors.get(`${PATH}.weight`)!;
    const data = (weight.data as Uint8Array).slice(1);
    cut.set(`${PATH}.weight`, { dtype: 'U8', shape: [data.length, 1], data });
    saveFile(cut, path);
    expect(await failure()).to.match(/4-bit numbers need \d+ bytes, got \d+/);
  });
});
