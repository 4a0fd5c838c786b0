// Our own plugins of JupyterLab. A new one is an ordinary JupyterLab plugin added to a list below.
import 'katex/dist/katex.min.css';
import './style.css';
import { diagramMimePlugin, diagramPlugin } from './diagram.ts';
import { mathPlugin } from './math.ts';
import { plotlyMimePlugin } from './plotly.ts';
import { printPlugin } from './print.ts';
import { runningOutputPlugin } from './running-output.ts';
import { tablePlugin } from './table.ts';

/** Plugins that use JupyterLab's services. */
export const plugins = [mathPlugin, tablePlugin, diagramPlugin, runningOutputPlugin, printPlugin];

/** Plugins that only draw a MIME type. */
export const mimePlugins = [plotlyMimePlugin, diagramMimePlugin];
