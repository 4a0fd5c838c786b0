import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/models/auto.ts';
import { chatAnswers, chatPrompt } from '../../src/models/chat.ts';
import { generate } from '../../src/models/generation.ts';

describe('Chat answers', () => {
  it('are what the model writes after each chat alone, in the order of the questions', async () => {
    await setBackend('auto');
    const model = await AutoModelForCausalLM.fromPretrained('models/world-3m');
    const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
    const questions = [
      'what is the capital of France , and of Italy and Spain ?',
      'what is 2 and 3 ?',
      'what colour is snow ?',
    ];
    const alone: string[] = [];
    for (const content of questions) {
      const prompt = chatPrompt(tokenizer, [{ role: 'user', content }]);
      expect(tokenizer.decode(prompt)).to.equal(
        tokenizer.applyChatTemplate([{ role: 'user', content }], { addGenerationPrompt: true }),
      );
      const [ids] = await generate(model, [prompt], { maxNewTokens: 6 });
      alone.push(tokenizer.decode(ids!.slice(prompt.length), { skipSpecialTokens: true }));
    }
    const options = { maxNewTokens: 6, batchSize: 2 };
    expect(await chatAnswers(model, tokenizer, questions, options)).to.deep.equal(alone);
    model.dispose();
  });
});
