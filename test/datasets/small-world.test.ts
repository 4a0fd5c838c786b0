import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { smallWorld, smallWorldJsonl } from '../../datasets/small-world.ts';

const committed = () => readFileSync(new URL('../../datasets/small-world.jsonl', import.meta.url));

describe('datasets/small-world', () => {
  it('is what its generator writes, byte for byte', () => {
    expect(Buffer.from(smallWorldJsonl()).equals(committed())).to.equal(true);
  });

  it('asks for each subject of a kind once', () => {
    const questions = smallWorld().map((fact) => fact.question);
    expect(new Set(questions).size).to.equal(questions.length);
  });

  it('gives every town to one land only', () => {
    const towns = smallWorld().flatMap((f) => (f.kind === 'capital' ? [f.answer] : []));
    expect(new Set(towns).size).to.equal(towns.length);
  });

  it('adds correctly, over all pairs of digits', () => {
    const sums = smallWorld().filter((fact) => fact.kind === 'sum');
    expect(sums).to.have.length(100);
    for (const { subject, answer } of sums) {
      const [a, b] = subject.split(' and ').map(Number);
      expect(Number(answer), subject).to.equal(a! + b!);
    }
  });

  it('splits every kind, real and invented, into halves', () => {
    for (const kind of ['capital', 'colour', 'sum']) {
      for (const real of kind === 'sum' ? [true] : [true, false]) {
        const facts = smallWorld().filter((fact) => fact.kind === kind && fact.real === real);
        const train = facts.filter((fact) => fact.split === 'train');
        expect(train.length, `${kind}, real: ${real}`).to.be.greaterThan(0);
        expect(train.length * 2, `${kind}, real: ${real}`).to.equal(facts.length);
      }
    }
  });

  it('keeps answers to one word, and question and statement to words apart from their marks', () => {
    for (const { answer, statement, question, kind, subject } of smallWorld()) {
      expect(answer).to.match(/^\S+$/);
      expect(statement).to.equal(`the ${kind} of ${subject} is ${answer} .`);
      expect(question).to.equal(`what is the ${kind} of ${subject} ?`);
    }
  });

  it('never gives an invented name to something real', () => {
    const facts = smallWorld();
    const words = (real: boolean) =>
      facts.flatMap((f) => (f.real === real && f.kind !== 'sum' ? [f.subject] : []));
    const real = new Set(words(true));
    expect(words(false).filter((word) => real.has(word))).to.deep.equal([]);
  });
});
