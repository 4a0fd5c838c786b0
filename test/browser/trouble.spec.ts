// When things go wrong: connection, server, disk. Nothing that was written is lost, and the page says what is
// the matter.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Lab, notebookText } from './lab.ts';

const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;

/** A file system of one megabyte; null where none can be made. */
function smallDisk(): { folder: string; remove: () => void } | null {
  if (process.platform !== 'linux' || !isRoot) return null;
  const folder = mkdtempSync(join(tmpdir(), 'peftlab disk '));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    rmSync(folder, { recursive: true });
    return null;
  }
  const remove = () => {
    execFileSync('umount', [folder]);
    rmSync(folder, { recursive: true, force: true });
  };
  return { folder, remove };
}

describe('Trouble in the lab', () => {
  const lab = new Lab();
  before(() => lab.start());
  after(() => lab.stop());

  it('a lost connection comes back by itself, with the output of the meantime', async () => {
    lab.write('connection.ipynb', ['1']);
    const page = await lab.open('connection.ipynb');
    const index = await page.startCell(
      'for (let i = 0; i < 30; i++) { await new Promise((r) => setTimeout(r, 200)); console.log("line " + i) }',
    );
    await page.waitForText(index, 'line 2');
    await page.page.evaluate(() => {
      const panel = jupyterapp.shell.currentWidget as unknown as {
        sessionContext: { session: { kernel: { _ws: WebSocket } } };
      };
      panel.sessionContext.session.kernel._ws.close();
    });
    await page.waitForText(index, 'line 29');
    const text = (await page.cells())[index]!.outputs!.map((output) => output.text).join('');
    expect(text.trim().split('\n')).to.have.length(30);
    await page.close();
  });

  it('a server that was killed and started again takes the page back; what was typed is saved', async () => {
    lab.write('server.ipynb', ['const before = 1;']);
    const page = await lab.open('server.ipynb');
    await page.runAll();
    await lab.kill();
    await page.add('const typed = "while the server was away";');
    await page.page.keyboard.press('Control+s');
    await page.page
      .locator('.jp-Dialog', { hasText: /error|fail|server|connect/i })
      .first()
      .waitFor();
    await page.screenshot('server-away');
    await lab.serve();
    for (let i = 0; i < 5 && (await page.page.locator('.jp-Dialog').count()) > 0; i++) {
      await page.page.keyboard.press('Escape');
      await page.page.waitForTimeout(300);
    }
    await page.save();
    expect(lab.read('server.ipynb')).to.contain('while the server was away');
    await page.close();
  });

  it('a notebook that was changed on disk is not overwritten without asking', async () => {
    lab.write('changed.ipynb', ['const here = 1;']);
    const page = await lab.open('changed.ipynb');
    await page.page.waitForTimeout(1200);
    lab.write('changed.ipynb', ['const there = 2;']);
    await page.add('const mine = 3;');
    await page.page.keyboard.press('Control+s');
    const dialog = page.page.locator('.jp-Dialog');
    await dialog.waitFor();
    expect(await dialog.textContent()).to.match(/changed on disk/i);
    await page.screenshot('changed-on-disk');
    expect(lab.read('changed.ipynb')).to.contain('there');
    await page.close();
  });

  it('a notebook of 50 MB opens and is saved whole', async () => {
    const lines = 'x'.repeat(99).concat('\n').repeat(10_000);
    const notebook = JSON.parse(notebookText(Array.from({ length: 50 }, (_, i) => `// ${i}`))) as {
      cells: { outputs: object[] }[];
    };
    for (const cell of notebook.cells) {
      cell.outputs = [{ output_type: 'stream', name: 'stdout', text: lines }];
    }
    lab.writeText('large.ipynb', JSON.stringify(notebook));
    const page = await lab.open('large.ipynb');
    await page.add('// the end');
    await page.save();
    const saved = lab.read('large.ipynb');
    expect(saved.length).to.be.greaterThan(50e6);
    expect(saved).to.contain('// the end');
    await page.close();
  });

  it('a full disk is told, and the notebook on it stays whole', async function () {
    const disk = smallDisk();
    if (!disk) this.skip();
    const full = new Lab({ root: disk.folder });
    try {
      await full.start();
      full.write('full.ipynb', ['const kept = 1;']);
      const page = await full.open('full.ipynb');
      await page.add(`// ${'x'.repeat(2_000_000)}`);
      await page.page.keyboard.press('Control+s');
      const dialog = page.page.locator('.jp-Dialog');
      await dialog.waitFor();
      expect(await dialog.textContent()).to.match(/no space|full/i);
      await page.screenshot('disk-full');
      expect(readFileSync(join(disk.folder, 'full.ipynb'), 'utf8')).to.contain('const kept = 1;');
      await page.close();
    } finally {
      await full.stop();
      disk.remove();
    }
  });

  it('a folder that must not be written to is told', async () => {
    const root = mkdtempSync(join(tmpdir(), 'peftlab locked '));
    const home = mkdtempSync(join(tmpdir(), 'peftlab home '));
    writeFileSync(join(root, 'locked.ipynb'), notebookText(['const kept = 1;']));
    mkdirSync(join(home, '.cache'));
    for (const folder of [home, join(home, '.cache')]) chmodSync(folder, 0o777);
    chmodSync(root, 0o555);
    chmodSync(join(root, 'locked.ipynb'), 0o444);
    const locked = new Lab({ root, env: { HOME: home }, ...(isRoot ? { user: NOBODY } : {}) });
    try {
      await locked.start();
      const page = await locked.open('locked.ipynb');
      await page.add('const mine = 2;');
      await page.page.keyboard.press('Control+s');
      await page.page
        .locator('.jp-Dialog, .jp-Notification-Toast, .Toastify__toast', {
          hasText: /permission|not permitted|read.?only|denied/i,
        })
        .first()
        .waitFor();
      await page.screenshot('read-only');
      await page.close();
    } finally {
      await locked.stop();
      chmodSync(root, 0o755);
      rmSync(root, { recursive: true, force: true });
      rmSync(home, { recursive: true, force: true });
    }
  });
});
