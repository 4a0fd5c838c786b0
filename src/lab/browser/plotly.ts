// Figures of type application/vnd.plotly.v1+json. Plotly itself is loaded with the first figure; an update
// redraws the same figure and keeps the reader's zoom; colours follow JupyterLab's theme.
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { darkColours } from './dark-colours.ts';

const MIME = 'application/vnd.plotly.v1+json';

/** Plotly's JSON form of a figure. */
interface Figure {
  data?: object[];
  layout?: Record<string, unknown> & { title?: string | { text?: string } };
  frames?: object[];
  config?: Record<string, unknown>;
}

async function loadPlotly() {
  const { default: plotly } = await import('plotly.js-dist-min');
  return plotly;
}

/** One figure. */
export class RenderedPlotly extends Widget implements IRenderMime.IRenderer {
  private figure: Figure = {};
  private drawing: Promise<void> | null = null;
  private isStale = false;
  private readonly sizes: ResizeObserver;
  private readonly themes: MutationObserver;

  constructor() {
    super({ node: document.createElement('figure') });
    this.addClass('plab-Figure');
    Object.assign(this.node.style, { margin: '0', width: '100%' });
    this.sizes = new ResizeObserver(() => void this.resize());
    this.themes = new MutationObserver(() => void this.draw());
    this.sizes.observe(this.node);
    this.themes.observe(document.body, { attributeFilter: ['data-jp-theme-light'] });
  }

  /** Draws `model`; of figures that come faster than they can be drawn only the last is. */
  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.figure = model.data[MIME] as unknown as Figure;
    this.node.ariaLabel = description(model, this.figure);
    await this.draw();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.sizes.disconnect();
    this.themes.disconnect();
    const { node } = this;
    void this.drawing?.then(async () => (await loadPlotly()).purge(node));
    super.dispose();
  }

  private draw(): Promise<void> {
    this.isStale = true;
    this.drawing ??= this.drawLatest();
    return this.drawing;
  }

  private async drawLatest(): Promise<void> {
    const plotly = await loadPlotly();
    try {
      while (this.isStale && !this.isDisposed) {
        this.isStale = false;
        const { config = {}, frames } = this.figure;
        const { data = [], layout = {} } = isDark() ? darkColours(this.figure) : this.figure;
        const themed = { autosize: true, uirevision: 'kept', template: themeTemplate(), ...layout };
        const options = { responsive: false, displaylogo: false, ...config };
        await plotly.react(this.node, structuredClone(data), structuredClone(themed), options);
        if (frames) await plotly.addFrames(this.node, frames);
      }
    } finally {
      this.drawing = null;
    }
  }

  private async resize(): Promise<void> {
    if (
      this.drawing ||
      this.node.clientWidth === 0 ||
      !this.node.classList.contains('js-plotly-plot')
    )
      return;
    const plotly = await loadPlotly();
    if (!this.isDisposed && this.isVisible) await plotly.Plots.resize(this.node);
  }
}

/** The words of the output itself; else its title. */
function description({ data }: IRenderMime.IMimeModel, { layout }: Figure): string {
  const text = data['text/plain'];
  if (typeof text === 'string' && text !== '') return text;
  const title = typeof layout?.title === 'string' ? layout.title : layout?.title?.text;
  return title ? `Figure: ${title}` : 'Figure without a title';
}

function isDark(): boolean {
  return document.body.dataset.jpThemeLight === 'false';
}

/** Defaults of a layout in the colours of JupyterLab's theme. */
function themeTemplate(): object {
  const style = getComputedStyle(document.body);
  const colour = (name: string, otherwise: string) =>
    style.getPropertyValue(name).trim() || otherwise;
  const text = colour('--jp-content-font-color1', '#212121');
  const line = colour('--jp-border-color2', '#e0e0e0');
  const axis = {
    gridcolor: line,
    zerolinecolor: colour('--jp-border-color0', '#bdbdbd'),
    linecolor: line,
    automargin: true,
  };
  const background = colour('--jp-layout-color0', '#fff');
  return {
    layout: {
      paper_bgcolor: background,
      plot_bgcolor: background,
      margin: { t: 60, r: 30, b: 50, l: 60 },
      font: { color: text, family: style.getPropertyValue('--jp-content-font-family') },
      colorway: ['#3178c6', '#d1572a', '#2a9d6f', '#9b5de5', '#c9930a', '#1aa6b7', '#c2447d'],
      modebar: { color: colour('--jp-ui-font-color2', '#616161'), bgcolor: 'rgba(0,0,0,0)' },
      hoverlabel: { bgcolor: colour('--jp-layout-color1', '#fff'), font: { color: text } },
      ...{ xaxis: axis, yaxis: axis },
    },
  };
}

/** JupyterLab's MIME extension. */
export const plotlyMimePlugin: IRenderMime.IExtension = {
  id: 'peftlab:plotly',
  description: 'Draws Plotly figures.',
  rendererFactory: { safe: true, mimeTypes: [MIME], createRenderer: () => new RenderedPlotly() },
  rank: 0,
  dataType: 'json',
};
