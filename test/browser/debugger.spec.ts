// The debugger, by mouse: a breakpoint on a line of TypeScript, its variables, a step, and on.
import { expect } from 'chai';
import { Lab } from './lab.ts';
import type { LabPage } from './page.ts';

const CODE = `interface Point { x: number }
function norm(p: Point): number {
  const square = p.x * p.x;
  const root = Math.sqrt(square);
  return root;
}
console.log('result', norm({ x: 3 }));`;

describe('The debugger in the lab', () => {
  const lab = new Lab();
  let page: LabPage;
  before(async () => {
    await lab.start();
    lab.write('debug.ipynb', [CODE]);
    page = await lab.open('debug.ipynb');
  });
  after(async () => {
    await lab.stop();
    expect(page?.problems).to.deep.equal([]);
  });

  it('stops at a breakpoint, shows variables, steps and goes on', async () => {
    const view = page.page;
    const button = view.locator('.jp-DebuggerBugButton:visible').first();
    const sidebar = view.locator('.jp-DebuggerSidebar');
    // JupyterLab loses a click that comes while it still asks the kernel whether there is a debugger.
    for (let tries = 0; tries < 10 && !(await sidebar.isVisible()); tries++) {
      await button.click();
      await sidebar.waitFor({ timeout: 10_000 }).catch(() => {});
    }
    await sidebar.waitFor();
    await page.select(0);
    await view.keyboard.press('Enter');
    const gutter = view.locator('.cm-breakpoint-gutter .cm-gutterElement');
    const breakpoint = view.locator('.jp-DebuggerBreakpoint').first();
    // A click is lost if it comes before the editor has heard that the debugger is on.
    for (let tries = 0; tries < 10 && !(await breakpoint.isVisible()); tries++) {
      await gutter.nth(4).click();
      await breakpoint.waitFor({ timeout: 10_000 }).catch(() => {});
    }
    await breakpoint.waitFor();
    await view.keyboard.press('Control+Enter');
    await view.locator('.jp-DebuggerCallstackFrame', { hasText: 'norm' }).waitFor();
    const variables = view.locator('.jp-DebuggerVariables');
    await variables.locator('text=square').first().waitFor();
    expect(await variables.textContent()).to.contain('9');
    await page.screenshot('debugger');
    await view.locator('.jp-DebuggerPausedButton[title^="Next"]').click();
    await view.waitForFunction(() =>
      /root\D*3/.test(document.querySelector('.jp-DebuggerVariables')?.textContent ?? ''),
    );
    await view.locator('.jp-DebuggerPausedButton[title^="Continue"]').click();
    await page.waitForText(0, 'result 3');
    await button.click();
  });
});
