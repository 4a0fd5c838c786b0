import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { passes } from '../parity/measure.ts';
import { findCases, runCase } from '../parity.ts';

const peers = join(import.meta.dirname, '../peers');

describe('golden cases of the Python ecosystem', () => {
  before(() => setBackend('wasm'));

  for (const folder of findCases(peers)) {
    it(`agrees on ${relative(peers, folder)}`, async () => {
      const failed = (await runCase(folder)).filter((measure) => !passes(measure));
      expect(failed.map(({ what, error }) => `${what} (${error})`)).to.deep.equal([]);
    });
  }

  it('has cases of every kind to agree on', () => {
    const kinds = new Set(findCases(peers).map((folder) => relative(peers, folder).slice(0, 2)));
    expect([...kinds]).to.include.members(['01', '08']);
  });

  it('prints a row for each case and fails on a kind that it does not know', () => {
    const folder = mkdtempSync(join(tmpdir(), 'parity-'));
    cpSync(join(peers, '08_schedules'), join(folder, 'good'), { recursive: true });
    mkdirSync(join(folder, 'odd'));
    writeFileSync(join(folder, 'odd', 'manifest.json'), '{"case": "99_odd"}');
    const runner = join(import.meta.dirname, '../parity.ts');
    const { stdout, status } = spawnSync(process.execPath, ['--import', 'tsx', runner, folder]);
    rmSync(folder, { recursive: true });
    expect(String(stdout).trim().split('\n').at(-1)).to.equal('1 passed, 1 failed');
    expect(String(stdout)).to.match(/^good .*pass$/m);
    expect(String(stdout)).to.include("Unknown kind of case '99_odd'");
    expect(status).to.equal(1);
  });
});
