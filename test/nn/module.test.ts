import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { gpt2Config, llamaConfig } from '../../src/models/config.ts';
import { GPT2LMHeadModel } from '../../src/models/gpt2.ts';
import { LlamaForCausalLM } from '../../src/models/llama.ts';
import { Linear } from '../../src/nn/linear.ts';
import { functionalCall, snakeCase } from '../../src/nn/module.ts';

const llama = (tieWordEmbeddings: boolean) =>
  new LlamaForCausalLM(
    llamaConfig({
      vocabSize: 13,
      hiddenSize: 8,
      intermediateSize: 12,
      numHiddenLayers: 2,
      numAttentionHeads: 2,
      tieWordEmbeddings,
    }),
  );

describe('Module', () => {
  before(() => setBackend('cpu'));

  it("names parameters as transformers' state dict does", () => {
    const names = [...llama(false).namedParameters()].map(([name]) => name);
    expect(names).to.include.members([
      'model.embed_tokens.weight',
      'model.layers.1.self_attn.q_proj.weight',
      'model.layers.0.post_attention_layernorm.weight',
      'model.norm.weight',
      'lm_head.weight',
    ]);
    const small = gpt2Config({ vocabSize: 5, nEmbd: 4, nLayer: 1, nHead: 1, nPositions: 3 });
    const gpt2 = [...new GPT2LMHeadModel(small).namedParameters()].map(([name]) => name);
    expect(gpt2).to.include.members(['transformer.h.0.ln_1.bias', 'transformer.ln_f.weight']);
  });

  it('counts a tied parameter once, under its first name', () => {
    const names = [...llama(true).namedParameters()].map(([name]) => name);
    expect(names).to.include('model.embed_tokens.weight').and.not.include('lm_head.weight');
  });

  it('turns properties into snake_case', () => {
    expect(['qProj', 'ln1', 'lnF', 'wte', 'embedTokens'].map(snakeCase)).to.deep.equal([
      'q_proj',
      'ln_1',
      'ln_f',
      'wte',
      'embed_tokens',
    ]);
  });

  it('replaces a module by its path and runs the new one', () => {
    const model = llama(true);
    const wide = new Linear(8, 12, { bias: true });
    model.setSubmodule('model.layers.1.mlp.up_proj', wide);
    expect(model.getSubmodule('model.layers.1.mlp.up_proj')).to.equal(wide);
    expect([...model.namedParameters()].map(([name]) => name)).to.include(
      'model.layers.1.mlp.up_proj.bias',
    );
    expect(() => model.setSubmodule('model.none', wide)).to.throw(
      "No module named 'model.none' in LlamaForCausalLM",
    );
  });

  it('replaces a whole layer of a list', () => {
    const model = llama(true);
    const { layers } = model.model;
    const first = layers[0]!;
    model.setSubmodule('model.layers.1', first);
    expect(layers[1]).to.equal(first);
  });

  it('sets training here and below', () => {
    const model = llama(true).train();
    expect([...model.namedModules()].every(([, module]) => module.training)).to.equal(true);
    model.eval();
    expect([...model.namedModules()].some(([, module]) => module.training)).to.equal(false);
  });

  it('runs with other tensors in the place of its parameters, tied ones too, and restores them', () => {
    const model = llama(true);
    const ids = tf.tensor2d([[1, 2, 3]], undefined, 'int32');
    const before = model.forward(ids).logits.dataSync();
    const name = 'model.embed_tokens.weight';
    const own = new Map(model.namedParameters()).get(name)!;
    const zero = functionalCall(model, new Map([[name, tf.zerosLike(own)]]), () =>
      model.forward(ids).logits.dataSync(),
    );
    expect([...zero]).to.deep.equal(Array(3 * 13).fill(0));
    expect([...model.forward(ids).logits.dataSync()]).to.deep.equal([...before]);
    expect(new Map(model.namedParameters()).get(name)).to.equal(own);
  });

  it('trains only what requires a gradient, and frees everything', () => {
    const before = tf.memory().numTensors;
    const model = llama(false).requiresGrad(false);
    model.model.norm.requiresGrad();
    const { grads } = tf.tidy(() =>
      tf.variableGrads(
        () => tf.sum(model.forward(tf.tensor2d([[1, 2]], undefined, 'int32')).logits).asScalar(),
        model.parameters().filter(({ trainable }) => trainable),
      ),
    );
    expect(Object.values(grads).map(({ shape }) => shape)).to.deep.equal([[8]]);
    tf.dispose(grads);
    model.dispose();
    expect(tf.memory().numTensors).to.be.at.most(before + 1);
  });
});
