// Starts JupyterLab with all plugins: what JupyterLab's own `staging/index.js` does, without extensions
// that are installed later (federated modules).
import { JupyterLab } from '@jupyterlab/application';
import { JupyterPluginRegistry, PageConfig } from '@jupyterlab/coreutils';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { IConnectionStatus, IServiceManager } from '@jupyterlab/services';

/** What is known of a plugin before it is activated. */
interface Plugin {
  id: string;
  description?: string;
  requires?: { name: string }[];
  optional?: { name: string }[];
  provides?: { name: string };
  autoStart?: boolean | 'defer';
}

/** A module with one plugin or several. */
export type ExtensionModule = readonly [name: string, module: object];

/** Plugins that need a server extension which does not exist here. */
const ABSENT = [
  '@jupyterlab/apputils-extension:announcements',
  '@jupyterlab/apputils-extension:licenses-plugin',
  '@jupyterlab/fileeditor-extension:language-server',
  '@jupyterlab/notebook-extension:language-server',
  '@jupyterlab/lsp-extension',
];

function isDisabled(id: string): boolean {
  const isAbsent = ABSENT.some((name) => id === name || id.startsWith(`${name}:`));
  return isAbsent || PageConfig.Extension.isDisabled(id);
}

/** All plugins of a module, with whether each is enabled. */
function pluginsOf([extension, module]: ExtensionModule) {
  const found = ((module as { default?: unknown }).default ?? module) as Plugin | Plugin[];
  return [found].flat().map((plugin) => ({ plugin, extension, enabled: !isDisabled(plugin.id) }));
}

/** Starts JupyterLab in this page. */
export async function start(
  extensions: readonly ExtensionModule[],
  mimeExtensions: readonly ExtensionModule[],
): Promise<void> {
  const plugins = extensions.flatMap(pluginsOf);
  const mimePlugins = mimeExtensions.flatMap(pluginsOf);
  const registry = new JupyterPluginRegistry();
  const enabled = plugins.filter((entry) => entry.enabled).map((entry) => entry.plugin);
  registry.registerPlugins(enabled as Parameters<typeof registry.registerPlugins>[0]);
  const connectionStatus = await registry.resolveOptionalService(IConnectionStatus);
  const serviceManager = await registry.resolveRequiredService(IServiceManager);
  const all = [...plugins, ...mimePlugins];
  const lab = new JupyterLab({
    pluginRegistry: registry,
    serviceManager,
    mimeExtensions: mimePlugins
      .filter((entry) => entry.enabled)
      .map((entry) => entry.plugin as unknown as IRenderMime.IExtensionModule),
    ...(connectionStatus ? { connectionStatus } : {}),
    disabled: {
      matches: all.filter((entry) => !entry.enabled).map((entry) => entry.plugin.id),
      patterns: [...ABSENT, ...PageConfig.Extension.disabled],
    },
    deferred: { matches: [], patterns: PageConfig.Extension.deferred },
    availablePlugins: all.map(({ plugin, extension, enabled }) => ({
      id: plugin.id,
      description: plugin.description ?? '',
      requires: plugin.requires ?? [],
      optional: plugin.optional ?? [],
      provides: plugin.provides ?? null,
      autoStart: plugin.autoStart ?? false,
      ...{ enabled, extension },
    })),
  });
  await lab.start({ ignorePlugins: [], bubblingKeydown: true });
  // For the browser's console and the browser tests.
  Object.assign(globalThis, { jupyterapp: lab });
}
