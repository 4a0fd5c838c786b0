import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { bestPaths, convertRows, loadDataset, rankedPairs } from 'peftlab';
import { codingRows } from '../../datasets/coding.ts';
import { FILES, fileText } from '../../datasets/make.ts';
import { worldPages } from '../../datasets/world/corpus.ts';
import { worldFacts } from '../../datasets/world/facts.ts';
import { worldInstructions } from '../../datasets/world/instructions.ts';
import { medicalFacts } from '../../datasets/world/medicine.ts';
import { worldChanges, worldPreferences, worldTasks } from '../../datasets/world/tasks.ts';

describe('datasets/world', () => {
  for (const name of Object.keys(FILES)) {
    it(`${name}.jsonl is what its generator writes, byte for byte`, () => {
      const committed = readFileSync(
        new URL(`../../datasets/${name}.jsonl`, import.meta.url),
        'utf8',
      );
      expect(fileText(name) === committed).to.equal(true);
    });
  }

  const facts = worldFacts();

  it('asks for each thing once, and its statements end with their answers', () => {
    expect(facts.length).to.be.greaterThan(3000);
    expect(new Set(facts.map(({ question }) => question)).size).to.equal(facts.length);
    for (const { statement, answer } of facts)
      expect(statement.endsWith(` ${answer}.`), statement).to.equal(true);
  });

  it('adds correctly', () => {
    for (const { subject, answer } of facts.filter(({ kind }) => kind === 'sum')) {
      const [a, b] = subject.split(' plus ').map(Number);
      expect(Number(answer), subject).to.equal(a! + b!);
    }
  });

  it('keeps facts of the test half out of all that is learnt from', () => {
    const held = facts
      .filter(({ split }) => split === 'test')
      .flatMap(({ question, paraphrase }) => [question, paraphrase]);
    const asked = new Set([
      ...worldInstructions().map(({ instruction }) => instruction),
      ...worldTasks().map(({ input }) => input),
      ...worldPreferences().map(({ prompt }) => prompt),
    ]);
    expect(held.filter((question) => asked.has(question))).to.deep.equal([]);
  });

  it('answers no question in the text for pretraining, and says nothing of medicine there', () => {
    const pages = worldPages(5);
    const text = Array.from({ length: 3000 }, () => pages.next().value).join('\n');
    const quiz = facts.filter(({ question, answer }) => text.includes(`${question} ${answer}`));
    expect(quiz).to.deep.equal([]);
    for (const { subject } of medicalFacts()) expect(text).to.not.include(subject);
  });

  it('gives changed facts another answer than they had', () => {
    for (const { answer, formerly, statement } of worldChanges()) {
      expect(answer).to.not.equal(formerly);
      expect(statement).to.include(answer);
    }
  });

  it('reads as Alpaca, ShareGPT, OpenAssistant, Dolly and multi-task rows', () => {
    expect(convertRows(loadDataset('world-instructions'), 'alpaca').rows).to.have.length(1800);
    expect(convertRows(loadDataset('world-sharegpt'), 'sharegpt').rows).to.have.length(80);
    expect(convertRows(loadDataset('world-dolly'), 'dolly').rows).to.have.length(80);
    expect(convertRows(loadDataset('world-tasks'), 'multitask').rows).to.have.length(800);
    const trees = [...loadDataset<Parameters<typeof bestPaths>[0][number]>('world-oasst')];
    expect(bestPaths(trees)).to.have.length(80);
    expect(rankedPairs(trees)).to.have.length(80);
  });
});

describe('datasets/coding-alpaca', () => {
  it('has functions that give the results they claim', () => {
    for (const { output, call, result } of codingRows()) {
      const value: unknown = runInNewContext(`${output}\n${call}`, {}, { timeout: 1000 });
      expect(JSON.stringify(value), call).to.equal(result);
    }
  });
});
