// HTML outputs as JupyterLab draws them; tables with a header of class `dataframe` get buttons that sort,
// and their scrolling frame can be reached and moved by keyboard.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { htmlRendererFactory, IRenderMimeRegistry, RenderedHTML } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';

const ORDERS = ['none', 'ascending', 'descending'] as const;
type Order = (typeof ORDERS)[number];

/** HTML whose tables sort. */
class SortableHtml extends RenderedHTML {
  override async render(model: IRenderMime.IMimeModel): Promise<void> {
    await super.render(model);
    for (const table of this.node.querySelectorAll<HTMLTableElement>('table.dataframe')) {
      makeSortable(table);
      makeScrollable(table);
    }
  }
}

/** Puts a button into each cell of the last header row. */
function makeSortable(table: HTMLTableElement): void {
  const body = table.tBodies[0];
  const header = table.tHead?.rows[table.tHead.rows.length - 1];
  if (!body || !header || body.rows.length < 2) return;
  const original = [...body.rows];
  for (const [column, cell] of [...header.cells].entries()) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'plab-Sort';
    button.append(...cell.childNodes);
    if (button.textContent === '') button.ariaLabel = 'Index';
    button.title = 'Sort by this column';
    cell.append(button);
    cell.ariaSort = 'none';
    button.addEventListener('click', () => {
      const order = ORDERS[(ORDERS.indexOf(cell.ariaSort as Order) + 1) % ORDERS.length]!;
      for (const other of header.cells) other.ariaSort = 'none';
      cell.ariaSort = order;
      body.append(...sorted(original, column, order));
    });
  }
}

/** Rows by one column: numbers by value, other texts by the reader's language, gaps last. */
function sorted(rows: readonly HTMLTableRowElement[], column: number, order: Order) {
  if (order === 'none') return rows;
  const keyed = rows.map((row) => ({ row, text: row.cells[column]?.textContent?.trim() ?? '' }));
  const isGap = (text: string) => text === '' || text === '…' || text === 'null' || text === 'NaN';
  const sign = order === 'ascending' ? 1 : -1;
  keyed.sort((a, b) => {
    if (isGap(a.text) || isGap(b.text)) return Number(isGap(a.text)) - Number(isGap(b.text));
    const difference = Number(a.text) - Number(b.text);
    const byText = Number.isNaN(difference) ? a.text.localeCompare(b.text) : difference;
    return sign * byText;
  });
  return keyed.map(({ row }) => row);
}

function makeScrollable(table: HTMLTableElement): void {
  let frame = table.parentElement;
  if (!frame || frame.children.length > 1 || !frame.style.overflow) {
    frame = document.createElement('div');
    table.replaceWith(frame);
    frame.append(table);
  }
  frame.classList.add('plab-TableFrame');
  frame.tabIndex = 0;
  frame.role = 'region';
  frame.ariaLabel = `Table, ${table.caption?.textContent ?? `${table.rows.length} rows`}`;
}

/** Draws `text/html` before JupyterLab's own renderer (rank 50). */
export const tablePlugin: JupyterFrontEndPlugin<void> = {
  id: 'peftlab:table',
  description: 'Sorts and scrolls tables.',
  autoStart: true,
  requires: [IRenderMimeRegistry],
  activate: (_app, rendermime: IRenderMimeRegistry) => {
    const createRenderer = (options: IRenderMime.IRendererOptions) => new SortableHtml(options);
    rendermime.addFactory({ ...htmlRendererFactory, createRenderer }, 40);
  },
};
