// Builds what is tested, out of the sources as they are now.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function folder() {
  const path = mkdtempSync(join(tmpdir(), 'fathom-webui-'));
  process.on('exit', () => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The page, as it is embedded. Returns the folder. */
export async function buildPage() {
  const { build } = await import('vite');
  const outDir = folder();
  await build({ root, logLevel: 'error', build: { outDir, emptyOutDir: true } });
  return outDir;
}

/** One source as a module that node can import. */
export async function load(source) {
  const { build } = await import('vite');
  const outDir = folder();
  await build({ root, configFile: false, logLevel: 'error', publicDir: false, ssr: { noExternal: true },
                build: { ssr: join('src', source), outDir, emptyOutDir: true, rollupOptions: { output: { entryFileNames: 'out.mjs' } } } });
  return import(pathToFileURL(join(outDir, 'out.mjs')).href);
}
