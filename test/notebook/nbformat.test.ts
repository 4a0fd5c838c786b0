import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  formatNotebook,
  type Notebook,
  NotebookError,
  newCell,
  parseNotebook,
  readNotebook,
  writeNotebook,
} from '../../src/notebook/nbformat.ts';

// Written by Python's nbformat 5.11.1 (nbformat.writes, then a newline).
const FROM_PYTHON = `{
 "cells": [
  {
   "cell_type": "markdown",
   "id": "153ac3a3",
   "metadata": {},
   "source": [
    "a\\n",
    "b é"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": null,
   "id": "e6854e48",
   "metadata": {},
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": [
      "a\\n",
      "b\\n"
     ]
    },
    {
     "data": {
      "application/json": {
       "a": [
        1,
        2
       ],
       "b": 1
      },
      "application/vnd.plotly.v1+json": {
       "data": []
      },
      "image/png": "abc\\n",
      "text/html": [
       "<b>"
      ],
      "text/plain": [
       "x\\n",
       "y"
      ]
     },
     "metadata": {},
     "output_type": "display_data"
    }
   ],
   "source": [
    "1\\n",
    "2\\n"
   ]
  }
 ],
 "metadata": {
  "kernelspec": {
   "name": "x"
  }
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
`;

describe('A notebook file', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'peftlab nb '));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };

  it("is written byte for byte as Python's nbformat writes it", () => {
    const path = file('python.ipynb', FROM_PYTHON);
    expect(formatNotebook(readNotebook(path))).to.equal(FROM_PYTHON);
  });

  it('gets the same cell ids each time where it has none', () => {
    const cells = [{ cell_type: 'code', metadata: {}, source: '1', outputs: [] }];
    const old = () => parseNotebook({ nbformat: 4, nbformat_minor: 2, metadata: {}, cells }, 'old');
    expect(old().cells[0]!.id).to.match(/^[0-9a-f]{8}$/);
    expect(old()).to.deep.equal(old());
    expect(old().nbformat_minor).to.equal(5);
  });

  for (const [what, text, words] of [
    ['is not JSON', '{', /must be JSON/],
    ['is not an object', '[]', /must hold a JSON object/],
    ['has nbformat 3', '{"nbformat":3}', /must have nbformat 4, got 3/],
    ['has no nbformat', '{}', /must have nbformat 4, got none/],
    ['has no cells', '{"nbformat":4}', /must have cells as an array/],
    [
      'has an unknown cell type',
      '{"nbformat":4,"cells":[{"cell_type":"heading"}]}',
      /Cell 1 .*heading/,
    ],
    [
      'has a cell without source',
      '{"nbformat":4,"cells":[{"cell_type":"code"}]}',
      /Cell 1 .*source/,
    ],
    [
      'has an unknown output',
      '{"nbformat":4,"cells":[{"cell_type":"code","source":"","outputs":[{}]}]}',
      /outputs of the types/,
    ],
  ] as const) {
    it(`is refused in one sentence when it ${what}`, () => {
      const path = file('bad.ipynb', text);
      expect(() => readNotebook(path)).to.throw(NotebookError, words);
      expect(readFileSync(path, 'utf8')).to.equal(text);
    });
  }

  it('is refused when it is missing or a folder', () => {
    expect(() => readNotebook(join(folder, 'none.ipynb'))).to.throw(NotebookError, /no such file/);
    expect(() => readNotebook(folder)).to.throw(NotebookError, /it is a folder/);
  });

  it('stays as it was when it cannot be written', () => {
    const notebook: Notebook = {
      cells: [newCell('code', '1', 0)],
      metadata: {},
      nbformat: 4,
      nbformat_minor: 5,
    };
    const path = join(folder, 'missing folder', 'x.ipynb');
    expect(() => writeNotebook(path, notebook)).to.throw(
      NotebookError,
      /Can't write .*no such file or folder/,
    );
    expect(existsSync(path)).to.equal(false);
  });

  it('is refused in a folder without permission', function () {
    if (process.getuid?.() === 0) this.skip();
    const path = file('locked.ipynb', FROM_PYTHON);
    chmodSync(folder, 0o500);
    try {
      expect(() => writeNotebook(path, readNotebook(path))).to.throw(
        NotebookError,
        /no permission/,
      );
    } finally {
      chmodSync(folder, 0o700);
    }
    expect(readFileSync(path, 'utf8')).to.equal(FROM_PYTHON);
  });
});
