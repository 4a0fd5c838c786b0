// Modules of the page that have no types of their own.

declare module 'buffer' {
  export const Buffer: unknown;
}

declare module 'process' {
  const process: unknown;
  // biome-ignore lint/style/noDefaultExport: as the package has it
  export default process;
}

declare module '*.css';

declare module 'plotly.js-dist-min' {
  /** What is used of Plotly. */
  interface Plotly {
    react(
      node: HTMLElement,
      data: readonly object[],
      layout: Record<string, unknown>,
      config: Record<string, unknown>,
    ): Promise<void>;
    addFrames(node: HTMLElement, frames: readonly object[]): Promise<void>;
    purge(node: HTMLElement): void;
    Plots: { resize(node: HTMLElement): Promise<void> };
  }
  const plotly: Plotly;
  // biome-ignore lint/style/noDefaultExport: as the package has it
  export default plotly;
}

declare module 'katex/contrib/auto-render' {
  interface AutoRenderOptions {
    delimiters: { left: string; right: string; display: boolean }[];
    throwOnError: boolean;
    output: 'html' | 'mathml' | 'htmlAndMathml';
  }
  // biome-ignore lint/style/noDefaultExport: as the package has it
  export default function renderMathInElement(node: HTMLElement, options: AutoRenderOptions): void;
}
