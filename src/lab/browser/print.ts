// Printing a notebook: its report from the server, in a frame out of sight, which draws its figures and then
// prints itself. JupyterLab's own way allows no scripts in the frame, and prints figures as empty space.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Printing } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';

/** Saves the notebook if it was changed, and prints its report. */
async function printNotebook({ context }: NotebookPanel): Promise<void> {
  if (context.model.dirty && !context.model.readOnly) await context.save();
  const { path } = context;
  const report = PageConfig.getNBConvertURL({ format: 'html', download: false, path });
  const url = new URL(report, location.href);
  url.searchParams.set('print', 'true');
  const frame = document.createElement('iframe');
  // As wide as a page of paper, for the figures; the server's answer keeps the report in a sandbox.
  frame.style.cssText = 'position: fixed; left: -9999px; width: 794px; height: 1123px; border: 0';
  frame.title = 'The notebook for printing';
  frame.ariaHidden = 'true';
  frame.src = url.href;
  const printed = new Promise<void>((resolve) => {
    const listen = ({ source, data }: MessageEvent) => {
      if (source !== frame.contentWindow || data !== 'printed') return;
      removeEventListener('message', listen);
      resolve();
    };
    addEventListener('message', listen);
  });
  document.body.append(frame);
  await printed;
  frame.remove();
}

/** Makes File, Print of a notebook print its figures too. */
export const printPlugin: JupyterFrontEndPlugin<void> = {
  id: 'peftlab:print',
  description: 'Prints notebooks with their figures.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_app, tracker: INotebookTracker) => {
    tracker.widgetAdded.connect((_tracker, panel) => {
      panel[Printing.symbol] = () => () => printNotebook(panel);
    });
  },
};
