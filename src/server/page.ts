// The page of the lab: one HTML document that names the bundle and tells it where everything is.
import type { Json } from '../kernel/message.ts';

/** What a page depends on. */
export interface PageOptions {
  /** `/`, or the prefix of a proxy; ends with a slash. */
  baseUrl: string;
  version: string;
  root: string;
  workspace: string;
  /** Path of the file that the address names. */
  treePath: string;
  /** More of JupyterLab's configuration. */
  page: Json;
}

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='%233178c6'/%3E%3C/svg%3E";

/** JupyterLab's page configuration. */
export function pageConfig(options: PageOptions): Json {
  const { baseUrl, version, root, workspace, treePath, page } = options;
  const at = (path: string) => `${baseUrl}${path}`;
  const places = {
    app: at('lab'),
    settings: at('lab/api/settings'),
    themes: at('lab/api/themes'),
    translationsApi: at('lab/api/translations'),
    workspacesApi: at('lab/api/workspaces'),
    labextensions: at('lab/extensions'),
    licenses: at('lab/api/licenses'),
    listings: at('lab/api/listings'),
    static: at('static/lab'),
    tree: at('lab/tree'),
  };
  const full = Object.entries(places).map(([name, path]) => [
    `full${name[0]!.toUpperCase()}${name.slice(1)}Url`,
    path,
  ]);
  const relative = Object.entries(places).map(([name, path]) => [
    `${name}Url`,
    `/${path.slice(baseUrl.length)}`,
  ]);
  return {
    ...Object.fromEntries([...full, ...relative]),
    ...{ appName: 'peftlab', appNamespace: 'lab', appVersion: version, baseUrl, wsUrl: '' },
    ...{ mode: 'multiple-document', workspace, treePath, store_id: 0, token: '' },
    ...{ devMode: 'false', buildAvailable: false, buildCheck: false, cacheFiles: false },
    ...{ terminalsAvailable: false, collaborative: false, quitButton: true },
    ...{ notebookVersion: '[2, 15, 0]', serverRoot: root, preferredPath: '/' },
    ...{ news: { disabled: true }, copyAbsolutePath: false },
    ...{ disabledExtensions: [], deferredExtensions: [], federated_extensions: [] },
    ...page,
  };
}

/** The document. */
export function pageHtml(options: PageOptions): string {
  const config = JSON.stringify(pageConfig(options)).replace(/[<\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  const bundle = `${options.baseUrl}static/lab`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>peftlab</title>
<script id="jupyter-config-data" type="application/json">${config}</script>
<link rel="icon" href="${ICON}" class="idle favicon">
<link rel="stylesheet" href="${bundle}/lab.css">
<script type="module" src="${bundle}/lab.js"></script>
</head>
<body class="jp-ThemedContainer"></body>
</html>
`;
}
