// The globals of Node that some of JupyterLab's dependencies read; esbuild puts them in where they are used.
import { Buffer as BrowserBuffer } from 'buffer';
import browserProcess from 'process';

export { BrowserBuffer as Buffer, browserProcess as process };
