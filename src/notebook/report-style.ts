// The look of a report: readable measure, light and dark, print.

/** Style sheet of `notebookToHtml`. */
export const REPORT_CSS = `
:root {
  --text: #1c2733; --soft: #52606d; --page: #ffffff; --panel: #f4f6f8; --line: #d7dde4; --link: #0554ad;
  --red: #b3261e; --green: #1b6e3c; --yellow: #7a5900; --blue: #0554ad; --magenta: #8a2d8f; --cyan: #006a75;
  --keyword: #8a2d8f; --string: #1b6e3c; --number: #a14000; --comment: #52606d; --title: #0554ad;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) { @media screen { :root {
  --text: #dde3ea; --soft: #a3afbb; --page: #14191f; --panel: #1d242c; --line: #3a4450; --link: #7cb7ff;
  --red: #ff8f86; --green: #7fd6a0; --yellow: #e6c35c; --blue: #7cb7ff; --magenta: #e39be8; --cyan: #6fd3de;
  --keyword: #e39be8; --string: #7fd6a0; --number: #ffb37a; --comment: #a3afbb; --title: #7cb7ff;
} .plab-Diagram img { filter: invert(.92) hue-rotate(180deg); } } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--text); background: var(--page); font: 17px/1.6 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2rem 1.25rem 6rem; }
nav { font-size: .85rem; padding: 1rem 1.25rem; border-bottom: 1px solid var(--line); }
nav ol { list-style: none; margin: 0 auto; padding: 0; max-width: 49.5rem; columns: 2; }
nav .level2 { padding-left: 1rem; }
a { color: var(--link); }
h1, h2, h3, h4 { line-height: 1.25; margin: 2em 0 .6em; }
h1 { margin-top: .5em; font-size: 2rem; } h2 { font-size: 1.45rem; } h3 { font-size: 1.15rem; }
pre, code { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
:not(pre) > code { background: var(--panel); padding: .1em .3em; border-radius: 3px; }
pre { overflow-x: auto; margin: 0; padding: .7rem .9rem; white-space: pre; }
.markdown pre, pre.raw { background: var(--panel); border-radius: 4px; margin: 1em 0; }
.code { margin: 1.2rem 0; position: relative; }
.code .count { position: absolute; right: calc(100% + .6rem); top: .75rem; color: var(--soft); font: .75rem ui-monospace, monospace; }
.input { background: var(--panel); border-left: 3px solid var(--line); border-radius: 0 4px 4px 0; }
.output { margin: .5rem 0; overflow-x: auto; }
.output > pre { padding: .3rem .9rem; max-height: 40rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.stderr, .error { border-left: 3px solid var(--red); }
table { border-collapse: collapse; font-size: .9em; margin: .6em 0; }
th, td { padding: .3em .7em; border-bottom: 1px solid var(--line); text-align: left; }
thead th { border-bottom: 2px solid var(--soft); }
caption { white-space: nowrap; color: var(--soft); font-size: .9em; padding-top: .3em; }
blockquote { margin: 1em 0; padding: .1em 1em; border-left: 3px solid var(--link); background: var(--panel); }
details { border: 1px solid var(--line); border-radius: 4px; padding: .4rem .9rem; margin: 1em 0; }
summary { cursor: pointer; font-weight: 600; }
figure { margin: 0; width: 100%; } img, svg { max-width: 100%; height: auto; }
math { font-size: 1.1em; } math[display="block"] { margin: 1em 0; overflow-x: auto; }
.hljs-keyword, .hljs-built_in, .hljs-literal { color: var(--keyword); }
.hljs-string, .hljs-regexp { color: var(--string); } .hljs-number { color: var(--number); }
.hljs-comment { color: var(--comment); font-style: italic; }
.hljs-title, .hljs-type, .hljs-property { color: var(--title); }
.ansi-red-fg, .ansi-bright-red-fg { color: var(--red); } .ansi-green-fg, .ansi-bright-green-fg { color: var(--green); }
.ansi-yellow-fg, .ansi-bright-yellow-fg { color: var(--yellow); } .ansi-blue-fg, .ansi-bright-blue-fg { color: var(--blue); }
.ansi-magenta-fg { color: var(--magenta); } .ansi-cyan-fg, .ansi-bright-cyan-fg { color: var(--cyan); }
@media print { body { font-size: 10.5pt; } nav { display: none; } main { max-width: none; padding: 0; }
  .code, figure, table, details { break-inside: avoid; } h1, h2, h3, h4 { break-after: avoid; } pre { white-space: pre-wrap; } .output > pre { max-height: none; } }
`;
