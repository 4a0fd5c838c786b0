// The public API of tslab on this kernel's display: `import * as tslab from 'tslab'` gives it without
// loading tslab's own compiler and sockets. Same names and types as tslab's `public.d.ts`.
import type { DisplaySink } from './display.ts';

interface TslabDisplay {
  javascript(s: string): void;
  html(s: string): void;
  markdown(s: string): void;
  latex(s: string): void;
  svg(s: string): void;
  png(b: Uint8Array): void;
  jpeg(b: Uint8Array): void;
  gif(b: Uint8Array): void;
  pdf(b: Uint8Array): void;
  text(s: string): void;
  raw(contentType: string, b: string | Uint8Array): void;
}

/** The exports of the module `tslab`. */
export function createTslab(sink: DisplaySink, session: string) {
  let count = 0;
  const create = (id?: string): TslabDisplay => {
    let update = false;
    const raw = (type: string, value: string | Uint8Array): void => {
      const data = typeof value === 'string' ? value : Buffer.from(value).toString('base64');
      sink.show({ [type]: data }, { ...(id ? { id } : {}), update, metadata: {} });
      update = id !== undefined;
    };
    return {
      javascript: (s) => raw('text/javascript', s),
      html: (s) => raw('text/html', s),
      markdown: (s) => raw('text/markdown', s),
      latex: (s) => raw('text/latex', s),
      svg: (s) => raw('image/svg+xml', s),
      png: (b) => raw('image/png', b),
      jpeg: (b) => raw('image/jpeg', b),
      gif: (b) => raw('image/gif', b),
      pdf: (b) => raw('application/pdf', b),
      text: (s) => raw('text/plain', s),
      raw,
    };
  };
  return {
    display: create(),
    newDisplay: () => create(`${session}-tslab-${++count}`),
    versions: { tslab: '1.0.22', typescript: '6.0.3', node: process.version },
  };
}
