// What runs in a report: draws its figures in the colours of the page, on paper in light ones and no wider
// than A4 or Letter; and prints it, once all is drawn, where its address asks for that with `?print`.

/** The script; Plotly is there if there is a figure. */
export const REPORT_SCRIPT = `
const isDark = matchMedia('(prefers-color-scheme: dark)');
const clear = 'rgba(0,0,0,0)';
const paper = { width: 660 };
function drawFigure(element, isOnPaper) {
  const dark = isDark.matches && !isOnPaper;
  const grid = dark ? '#3a4450' : '#d7dde4';
  const color = dark ? '#dde3ea' : '#1c2733';
  const { data, layout = {}, config = {} } = JSON.parse(element.dataset.figure);
  const axes = { xaxis: {}, yaxis: {}, ...layout };
  for (const name of Object.keys(axes)) {
    if (!/^[xy]axis[0-9]*$/.test(name)) delete axes[name];
    else axes[name] = { automargin: true, ...axes[name], gridcolor: grid, zerolinecolor: grid };
  }
  const colours = { paper_bgcolor: clear, plot_bgcolor: clear, modebar: { bgcolor: clear, color } };
  const options = { responsive: true, displaylogo: false, displayModeBar: 'hover', ...config };
  const font = { ...layout.font, color };
  const size = isOnPaper ? paper : { autosize: true };
  return Plotly.react(element, data, { ...layout, ...axes, ...colours, ...size, font }, options);
}
const draw = (isOnPaper) =>
  Promise.all(
    Array.from(document.querySelectorAll('figure.plotly'), (f) => drawFigure(f, isOnPaper)),
  );
const isToPrint = new URLSearchParams(location.search).has('print');
const drawn = draw(isToPrint);
addEventListener('beforeprint', () => draw(true));
addEventListener('afterprint', () => draw(false));
if (isToPrint) drawn.then(() => { print(); parent.postMessage('printed', '*'); });
`;
