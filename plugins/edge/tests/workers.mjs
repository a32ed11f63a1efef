// Workers in workerd: bundled as a developer's tools and Cloudflare would, started by miniflare.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare } from "miniflare";

/** Bundles a worker into a folder beside this file, whose path it answers. */
export async function bundled(worker, name) {
  const folder = fileURLToPath(new URL(`${name}/`, import.meta.url));
  await build({
    entryPoints: [worker],
    nodePaths: [fileURLToPath(new URL("node_modules", import.meta.url))],
    bundle: true,
    outdir: folder,
    format: "esm",
    conditions: ["workerd"],
    external: ["cloudflare:*"],
    loader: { ".wasm": "copy" },
  });
  return folder;
}

/** Starts the example worker of such a folder. */
export const example = (folder, options) =>
  new Miniflare({
    compatibilityDate: "2026-01-01",
    modules: true,
    modulesRoot: folder,
    modulesRules: [{ type: "ESModule", include: ["**/*.js"] }, { type: "CompiledWasm", include: ["**/*.wasm"] }],
    scriptPath: `${folder}worker.js`,
    durableObjects: { SLOTS: { className: "PortcullisStore", useSQLite: true } },
    ...options,
  });
