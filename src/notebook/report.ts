// An executed notebook as one HTML file that opens offline: Markdown, mathematics (MathML), coloured code,
// outputs and figures. Plotly's own script is put into the file, once, if a figure needs it.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { AnsiUp } from 'ansi_up';
import hljs from 'highlight.js/lib/core';
import typescript from 'highlight.js/lib/languages/typescript';
import katex from 'katex';
import MarkdownIt from 'markdown-it';
import { escapeHtml } from './escape-html.ts';
import type { Cell, Json, Notebook, Output } from './nbformat.ts';
import { REPORT_SCRIPT } from './report-script.ts';
import { REPORT_CSS } from './report-style.ts';

const require = createRequire(import.meta.url);
const PLOTLY = 'application/vnd.plotly.v1+json';
hljs.registerLanguage('typescript', typescript);

type Markdown = InstanceType<typeof MarkdownIt>;

/** What turns Markdown and diagrams into HTML. */
interface Write {
  markdown: Markdown;
  drawDiagram: (source: string) => string;
}

/** A heading of the table of contents. */
interface Heading {
  level: number;
  text: string;
  id: string;
}

/** The report of `notebook`; `name` is its title where it has no heading. */
export async function notebookToHtml(notebook: Notebook, name: string): Promise<string> {
  const headings: Heading[] = [];
  const hasDiagrams = JSON.stringify(notebook.cells).includes('mermaid');
  const drawDiagram = hasDiagrams ? (await import('./diagram.ts')).diagramHtml : escapeHtml;
  const write: Write = { markdown: createMarkdown(headings, drawDiagram), drawDiagram };
  const cells = notebook.cells.map((cell) => cellHtml(cell, write)).join('\n');
  const title = headings[0]?.text ?? name;
  const contents = headings
    .filter((heading) => heading.level <= 2)
    .map(
      ({ level, text, id }) =>
        `<li class="level${level}"><a href="#${id}">${escapeHtml(text)}</a></li>`,
    );
  return [
    '<!doctype html>',
    '<html lang="en">',
    `<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<title>${escapeHtml(title)}</title>`,
    `<style>${REPORT_CSS}</style></head>`,
    '<body>',
    contents.length > 1 ? `<nav aria-label="Contents"><ol>${contents.join('')}</ol></nav>` : '',
    `<main>${cells}</main>`,
    cells.includes('class="plotly"') ? `<script>${inlineScript(plotlySource())}</script>` : '',
    `<script>${REPORT_SCRIPT}</script>`,
    '</body></html>\n',
  ].join('\n');
}

function createMarkdown(headings: Heading[], drawDiagram: Write['drawDiagram']): Markdown {
  const markdown = new MarkdownIt({ html: true, linkify: false, highlight: highlightCode });
  markdown.renderer.rules.heading_open = (tokens, index, options, _env, renderer) => {
    const token = tokens[index]!;
    const text = tokens[index + 1]?.content ?? '';
    const id = `${slug(text)}${headings.some((h) => h.id === slug(text)) ? `-${headings.length}` : ''}`;
    headings.push({ level: Number(token.tag.slice(1)), text, id });
    token.attrSet('id', id);
    return renderer.renderToken(tokens, index, options);
  };
  const { fence } = markdown.renderer.rules;
  markdown.renderer.rules.fence = (tokens, index, ...rest) => {
    const { info, content } = tokens[index]!;
    return info.trim() === 'mermaid' ? drawDiagram(content) : fence!(tokens, index, ...rest);
  };
  markdown.inline.ruler.after('escape', 'math', (state, silent) => {
    const math = /^(\$\$)([^$]+)\$\$|^(\$)((?:\\.|[^$\\\n])+?)\$(?!\d)/.exec(
      state.src.slice(state.pos),
    );
    if (!math) return false;
    const [all, block, blockText, , inlineText] = math;
    if (!block && /^\s|\s$/.test(inlineText ?? '')) return false;
    if (!silent) {
      const token = state.push('math', '', 0);
      token.content = (block ? blockText : inlineText) ?? '';
      token.markup = block ? '$$' : '$';
    }
    state.pos += all.length;
    return true;
  });
  markdown.renderer.rules.math = (tokens, index) => {
    const { content, markup } = tokens[index]!;
    return mathHtml(content, markup === '$$');
  };
  return markdown;
}

function mathHtml(tex: string, displayMode: boolean): string {
  return katex.renderToString(tex, { displayMode, output: 'mathml', throwOnError: false });
}

function highlightCode(text: string, language: string): string {
  const isTypescript = ['ts', 'typescript', 'js', 'javascript'].includes(language);
  return isTypescript ? hljs.highlight(text, { language: 'typescript' }).value : escapeHtml(text);
}

function cellHtml(cell: Cell, write: Write): string {
  if (cell.cell_type === 'markdown') {
    return `<section class="markdown">${write.markdown.render(cell.source)}</section>`;
  }
  if (cell.cell_type === 'raw') return `<pre class="raw">${escapeHtml(cell.source)}</pre>`;
  if (cell.source.trim() === '') return '';
  const count = cell.execution_count ?? ' ';
  const outputs = (cell.outputs ?? []).map((output) => outputHtml(output, write));
  return [
    '<section class="code">',
    `<div class="count" aria-hidden="true">[${count}]</div>`,
    `<pre class="input" tabindex="0"><code>${highlightCode(cell.source, 'typescript')}</code></pre>`,
    ...outputs.map((output) => `<div class="output">${output}</div>`),
    '</section>',
  ].join('');
}

function outputHtml(output: Output, write: Write): string {
  if (output.output_type === 'stream') {
    return `<pre class="${output.name}" tabindex="0">${ansi(output.text)}</pre>`;
  }
  if (output.output_type === 'error') {
    return `<pre class="error" role="alert" tabindex="0">${ansi(output.traceback.join('\n'))}</pre>`;
  }
  return bundleHtml(output.data, write);
}

/** The richest form of a MIME bundle. */
function bundleHtml(data: Json, { markdown, drawDiagram }: Write): string {
  const text = typeof data['text/plain'] === 'string' ? data['text/plain'] : '';
  if (data[PLOTLY]) return figureHtml(data[PLOTLY] as Json, text);
  const diagram = data['text/vnd.mermaid'];
  if (typeof diagram === 'string') return drawDiagram(diagram);
  const html = data['text/html'];
  if (typeof html === 'string') return html;
  const svg = data['image/svg+xml'];
  if (typeof svg === 'string')
    return `<div role="img" aria-label="${escapeHtml(text)}">${svg}</div>`;
  for (const type of ['image/png', 'image/jpeg', 'image/gif']) {
    const image = data[type];
    if (typeof image !== 'string') continue;
    return `<img src="data:${type};base64,${image.replace(/\s/g, '')}" alt="${escapeHtml(text)}">`;
  }
  if (typeof data['text/markdown'] === 'string') return markdown.render(data['text/markdown']);
  if (typeof data['text/latex'] === 'string') {
    return mathHtml(data['text/latex'].replace(/^\s*\$+|\$+\s*$/g, ''), true);
  }
  return `<pre tabindex="0">${ansi(text)}</pre>`;
}

function figureHtml(figure: Json, text: string): string {
  const height = Number((figure.layout as { height?: number } | undefined)?.height ?? 420);
  const json = escapeHtml(JSON.stringify(figure));
  return `<figure class="plotly" role="img" aria-label="${escapeHtml(text)}" style="min-height:${height}px" data-figure="${json}"></figure>`;
}

function plotlySource(): string {
  return readFileSync(require.resolve('plotly.js-dist-min'), 'utf8');
}

/** Text of a script that can't end its own element. */
function inlineScript(source: string): string {
  return source.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--');
}

function ansi(text: string): string {
  const converter = new AnsiUp();
  converter.use_classes = true;
  return converter.ansi_to_html(text);
}

function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '');
}
