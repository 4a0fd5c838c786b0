// Mermaid diagrams (decision trees, flows, sequences, states, classes) in Markdown fences and as outputs of
// type text/vnd.mermaid, drawn by beautiful-mermaid: 2 MB on demand, where Mermaid itself takes 80.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IMermaidMarkdown } from '@jupyterlab/mermaid';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import type { MermaidGraph } from 'beautiful-mermaid';

const MIME = 'text/vnd.mermaid';
const drawn = new Map<string, string>();

/** The diagram as HTML: an image with words in its place for those who can't see it. */
async function drawDiagram(source: string): Promise<string> {
  const known = drawn.get(source);
  if (known !== undefined) return known;
  const { renderMermaidSVG, parseMermaid } = await import('beautiful-mermaid');
  let html: string;
  try {
    const svg = renderMermaidSVG(source, {
      bg: '#ffffff',
      fg: '#1f2328',
      ...{ line: '#57606a', accent: '#3178c6', muted: '#424a53', border: '#57606a' },
      font: 'system-ui',
      padding: 12,
      transparent: true,
    }).replace(/@import url\([^)]*\);/g, '');
    const image = `data:image/svg+xml;base64,${toBase64(svg)}`;
    const words = escapeAttribute(describeDiagram(source, () => parseMermaid(source)));
    html = `<figure class="plab-Diagram"><img src="${image}" alt="${words}"></figure>`;
  } catch (error) {
    html = `<figure class="plab-Diagram"><pre>${escapeText(source)}</pre><figcaption>${escapeText(
      `This diagram can't be drawn: ${(error as Error).message}`,
    )}</figcaption></figure>`;
  }
  drawn.set(source, html);
  return html;
}

/** `accTitle` and `accDescr` of the source; else each arrow in words. */
function describeDiagram(source: string, parse: () => MermaidGraph): string {
  const own = [...source.matchAll(/^\s*acc(?:Title|Descr)\s*:\s*(.+)$/gm)].map((match) => match[1]);
  if (own.length > 0) return own.join('. ');
  if (!/^\s*(graph|flowchart|stateDiagram)/m.test(source)) return `Diagram: ${source.trim()}`;
  const { nodes, edges } = parse();
  const label = (id: string) => (nodes.get(id)?.label ?? id).replace(/<br\s*\/?>|\s+/g, ' ');
  const arrows = edges.map(
    (edge) =>
      `${label(edge.source)} to ${label(edge.target)}${edge.label ? ` (${edge.label})` : ''}`,
  );
  return `Diagram: ${arrows.join('; ')}`;
}

function toBase64(text: string): string {
  return btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

function escapeAttribute(text: string): string {
  return escapeText(text).replaceAll('"', '&quot;');
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
