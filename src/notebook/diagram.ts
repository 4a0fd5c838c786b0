// Mermaid diagrams (decision trees, flows, sequences, states, classes) as HTML, for the lab and for reports;
// drawn by beautiful-mermaid: 2 MB, to be loaded on demand, where Mermaid itself takes 80 and a browser.
import { parseMermaid, renderMermaidSVG } from 'beautiful-mermaid';
import { escapeHtml } from './escape-html.ts';

/** A diagram: an image, with words in its place for those who can't see it; what can't be drawn is said. */
export function diagramHtml(source: string): string {
  try {
    const svg = renderMermaidSVG(source, {
      bg: '#ffffff',
      fg: '#1f2328',
      ...{ line: '#57606a', accent: '#3178c6', muted: '#424a53', border: '#57606a' },
      // Boxes are as wide as this font's letters: others are wider.
      font: 'Arial',
      padding: 12,
      transparent: true,
    }).replace(/@import url\([^)]*\);/g, '');
    const image = `data:image/svg+xml;base64,${toBase64(svg)}`;
    const words = escapeHtml(describeDiagram(source));
    return `<figure class="plab-Diagram"><img src="${image}" alt="${words}"></figure>`;
  } catch (error) {
    const reason = escapeHtml(`This diagram can't be drawn: ${(error as Error).message}`);
    return `<figure class="plab-Diagram"><pre>${escapeHtml(source)}</pre><figcaption>${reason}</figcaption></figure>`;
  }
}

/** `accTitle` and `accDescr` of the source; else each arrow in words. */
function describeDiagram(source: string): string {
  const own = [...source.matchAll(/^\s*acc(?:Title|Descr)\s*:\s*(.+)$/gm)].map((match) => match[1]);
  if (own.length > 0) return own.join('. ');
  if (!/^\s*(graph|flowchart|stateDiagram)/m.test(source)) return `Diagram: ${source.trim()}`;
  const { nodes, edges } = parseMermaid(source);
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
