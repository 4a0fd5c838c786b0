// Formulas in Markdown, HTML and LaTeX outputs by KaTeX (1/8 of MathJax's size), with MathML beside the
// drawn form for screen readers. Loaded with the first formula.
import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILatexTypesetter } from '@jupyterlab/rendermime';

const ENVIRONMENTS = ['equation', 'align', 'aligned', 'gather', 'alignat', 'CD', 'matrix', 'cases'];
const DELIMITERS = [
  { left: '$$', right: '$$', display: true },
  { left: '\\[', right: '\\]', display: true },
  ...ENVIRONMENTS.flatMap((name) => [name, `${name}*`]).map((name) => ({
    left: `\\begin{${name}}`,
    right: `\\end{${name}}`,
    display: true,
  })),
  { left: '\\(', right: '\\)', display: false },
  { left: '$', right: '$', display: false },
];

/** Draws the formulas in `element`. */
async function typeset(element: HTMLElement): Promise<void> {
  if (!/[$]|\\[([]|\\begin/.test(element.textContent ?? '')) return;
  const { default: render } = await import('katex/contrib/auto-render');
  render(element, { delimiters: DELIMITERS, throwOnError: false, output: 'htmlAndMathml' });
}

/** JupyterLab's typesetter. */
export const mathPlugin: JupyterFrontEndPlugin<ILatexTypesetter> = {
  id: 'peftlab:math',
  description: 'Draws formulas with KaTeX.',
  autoStart: true,
  provides: ILatexTypesetter,
  activate: () => ({ typeset }),
};
