import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import {
  AutoModelForCausalLM,
  BitsAndBytesConfig,
  type CausalLM,
  fromConfig,
  llamaConfig,
  loadFile,
  normalInit,
  savePretrained,
  setBackend,
} from 'peftlab';
import { askPython, peersPython } from './python.ts';

interface About {
  layer: string;
  logits: number[];
  weight: number[];
}

const CONFIGS = {
  nf4: { loadIn4bit: true, bnb4bitQuantType: 'nf4', bnb4bitUseDoubleQuant: true },
  fp4: { loadIn4bit: true },
  int8: { loadIn8bit: true },
} as const;

const logitsOf = (model: CausalLM) =>
  tf.tidy(() => {
    const { logits } = model.forward(tf.tensor2d([[1, 5, 9, 2]], undefined, 'int32'));
    return Array.from(logits.dataSync());
  });
const weightOf = (model: CausalLM) =>
  tf.tidy(() => {
    const layer = model.getSubmodule('model.layers.0.mlp.up_proj');
    return Array.from((layer as unknown as { dequantize(): tf.Tensor }).dequantize().dataSync());
  });
const worst = (a: number[], b: number[]) =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

describe('Quantized checkpoints beside transformers and bitsandbytes', function () {
  this.timeout(600_000);
  let folder: string;
  let told: Record<string, { ours: About; theirs: About }>;

  before(async function () {
    const python = peersPython();
    if (!python) {
      console.log('No python3: transformers and bitsandbytes are left out');
      this.skip();
    }
    folder = mkdtempSync(join(tmpdir(), 'bnb-live-'));
    await setBackend('wasm');
    const sizes = { hiddenSize: 128, intermediateSize: 256, numHiddenLayers: 2 };
    const config = llamaConfig({ vocabSize: 64, ...sizes, numAttentionHeads: 4 });
    const base = fromConfig(config, { init: normalInit(0.1) });
    savePretrained(base, join(folder, 'base'));
    base.dispose();
    for (const [kind, options] of Object.entries(CONFIGS)) {
      const quantizationConfig = new BitsAndBytesConfig(options);
      const model = await AutoModelForCausalLM.fromPretrained(join(folder, 'base'), {
        quantizationConfig,
      });
      savePretrained(model, join(folder, `ours-${kind}`));
      model.dispose();
    }
    told = askPython(python, 'run_bnb.py', folder) as typeof told;
  });
  after(() => folder && rmSync(folder, { recursive: true }));

  for (const kind of Object.keys(CONFIGS)) {
    // bitsandbytes casts what it multiplies in int8 to float16 first; 4-bit products only round otherwise.
    const allowed = kind === 'int8' ? 0.1 : 1e-3;

    it(`transformers reads what we save, ${kind}`, async () => {
      const model = await AutoModelForCausalLM.fromPretrained(join(folder, `ours-${kind}`));
      const { layer, logits, weight } = told[kind]!.ours;
      expect(layer).to.equal(kind === 'int8' ? 'Linear8bitLt' : 'Linear4bit');
      expect(worst(weightOf(model), weight)).to.be.below(1e-7);
      expect(worst(logitsOf(model), logits)).to.be.below(allowed);
      model.dispose();
    });

    it(`we read what transformers saves, and save the same tensors, ${kind}`, async () => {
      const model = await AutoModelForCausalLM.fromPretrained(join(folder, `theirs-${kind}`));
      const { logits, weight } = told[kind]!.theirs;
      expect(worst(weightOf(model), weight)).to.be.below(1e-7);
      expect(worst(logitsOf(model), logits)).to.be.below(allowed);
      savePretrained(model, join(folder, `again-${kind}`));
      const [theirs, again] = [`theirs-${kind}`, `again-${kind}`].map((name) =>
        loadFile(join(folder, name, 'model.safetensors')),
      );
      expect([...again!.keys()].sort()).to.deep.equal([...theirs!.keys()].sort());
      for (const [name, tensor] of theirs!) expect(again!.get(name), name).to.deep.equal(tensor);
      model.dispose();
    });
  }
});
