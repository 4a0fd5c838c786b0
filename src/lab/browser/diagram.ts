// Mermaid diagrams in Markdown fences and as outputs of type text/vnd.mermaid. What draws them is loaded
// with the first one.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IMermaidMarkdown } from '@jupyterlab/mermaid';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';

const MIME = 'text/vnd.mermaid';
const drawn = new Map<string, string>();

/** The diagram as HTML. */
async function drawDiagram(source: string): Promise<string> {
  const { diagramHtml } = await import('../../notebook/diagram.ts');
  const html = drawn.get(source) ?? diagramHtml(source);
  drawn.set(source, html);
  return html;
}

/** A diagram as an output. */
class RenderedDiagram extends Widget implements IRenderMime.IRenderer {
  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.node.innerHTML = await drawDiagram(String(model.data[MIME]));
  }
}

/** Fences of language `mermaid` in Markdown. */
export const diagramPlugin: JupyterFrontEndPlugin<IMermaidMarkdown> = {
  id: 'peftlab:diagram',
  description: 'Draws Mermaid diagrams in Markdown.',
  autoStart: true,
  provides: IMermaidMarkdown,
  activate: () => ({
    languages: ['mermaid'],
    rank: 100,
    walk: async (text) => void (await drawDiagram(text)),
    render: (text) => drawn.get(text) ?? null,
  }),
};

/** Outputs and files of type Mermaid. */
export const diagramMimePlugin: IRenderMime.IExtension = {
  id: 'peftlab:diagram-output',
  description: 'Draws Mermaid diagrams in outputs.',
  rendererFactory: { safe: true, mimeTypes: [MIME], createRenderer: () => new RenderedDiagram() },
  rank: 50,
  dataType: 'string',
};
