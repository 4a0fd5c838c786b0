// A page that is loaded anew while a cell runs shows that cell's output again: JupyterLab forgets which cell
// sent a request, so this remembers it in the tab's session storage, and hands what the kernel goes on to
// say (and what the server kept of it) to the cell's output area.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import type { CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { type Kernel, KernelMessage } from '@jupyterlab/services';

const KEY = 'peftlab:running';
const KEPT = 200;

/** Requests of this tab: message id -> id of the cell that sent it. */
type Requests = Record<string, string>;

function read(): Requests {
  return JSON.parse(sessionStorage.getItem(KEY) ?? '{}') as Requests;
}

function write(requests: Requests): void {
  const last = Object.entries(requests).slice(-KEPT);
  sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(last)));
}

/** A request of an earlier page whose answers still come. */
class LostRequest {
  private readonly cell: CodeCell;
  private onIOPub: (message: KernelMessage.IIOPubMessage) => void = () => {};

  constructor(cell: CodeCell, kernel: Kernel.IKernelConnection, messageId: string) {
    this.cell = cell;
    const { outputArea, model } = cell;
    const future = this.future(kernel, messageId);
    // The cell's output area takes up what comes as if it had sent the request itself.
    // Doing so empties it: what the page found saved is put back.
    const saved = outputArea.model.toJSON();
    outputArea.future = future as unknown as typeof outputArea.future;
    outputArea.model.fromJSON(saved);
    model.executionState = 'running';
  }

  /** Hands over one message; true if it was the last. */
  receive(message: KernelMessage.IIOPubMessage): boolean {
    const { cell } = this;
    if (cell.isDisposed) return true;
    if (KernelMessage.isExecuteInputMsg(message)) {
      // The server tells all from the start.
      cell.outputArea.model.clear();
      cell.model.executionCount = message.content.execution_count;
      cell.model.executionState = 'running';
    } else if (KernelMessage.isStatusMsg(message)) {
      if (message.content.execution_state !== 'idle') return false;
      cell.model.executionState = 'idle';
      return true;
    } else this.onIOPub(message);
    return false;
  }

  /** What an output area uses of a future. */
  private future(kernel: Kernel.IKernelConnection, messageId: string): object {
    const lost = this;
    return {
      msg: { header: { msg_id: messageId }, parent_header: {}, content: {}, metadata: {} },
      done: new Promise(() => {}),
      isDisposed: false,
      onReply: () => {},
      onStdin: () => {},
      set onIOPub(receive: (message: KernelMessage.IIOPubMessage) => void) {
        lost.onIOPub = receive;
      },
      registerMessageHook: () => {},
      removeMessageHook: () => {},
      sendInputReply: (...args: Parameters<typeof kernel.sendInputReply>) =>
        kernel.sendInputReply(...args),
      dispose: () => {},
    };
  }
}

/** Watches the kernel of one notebook. */
function watch(panel: NotebookPanel, earlier: Requests): void {
  const lost = new Map<string, LostRequest>();
  const own = new Set<string>();
  const onMessage = (
    kernel: Kernel.IKernelConnection,
    { msg, direction }: Kernel.IAnyMessageArgs,
  ): void => {
    if (direction === 'send') {
      const { cellId } = msg.metadata as { cellId?: string };
      if (msg.header.msg_type !== 'execute_request' || !cellId) return;
      own.add(msg.header.msg_id);
      write({ ...read(), [msg.header.msg_id]: cellId });
      return;
    }
    const parent = (msg.parent_header as { msg_id?: string }).msg_id;
    if (msg.channel !== 'iopub' || !parent || own.has(parent)) return;
    const cellId = earlier[parent];
    if (!cellId) return;
    const known = lost.get(parent) ?? find(panel, cellId, kernel, parent);
    if (!known) return;
    lost.set(parent, known);
    if (known.receive(msg as KernelMessage.IIOPubMessage)) {
      lost.delete(parent);
      delete earlier[parent];
    }
  };
  const connect = (kernel: Kernel.IKernelConnection | null | undefined): void => {
    kernel?.anyMessage.connect(onMessage);
  };
  panel.sessionContext.kernelChanged.connect((_, { newValue }) => connect(newValue));
  connect(panel.sessionContext.session?.kernel);
}

function find(
  panel: NotebookPanel,
  cellId: string,
  kernel: Kernel.IKernelConnection,
  messageId: string,
): LostRequest | null {
  const cell = panel.content.widgets.find(({ model }) => model.id === cellId);
  return cell?.model.type === 'code' ? new LostRequest(cell as CodeCell, kernel, messageId) : null;
}

/** Shows the output of cells that were running when the page was loaded. */
export const runningOutputPlugin: JupyterFrontEndPlugin<void> = {
  id: 'peftlab:running-output',
  description: 'Shows the output of cells that ran while the page was loaded.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_app, tracker: INotebookTracker) => {
    const earlier = read();
    tracker.widgetAdded.connect((_, panel) => watch(panel, earlier));
  },
};
