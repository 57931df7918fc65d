import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

// The parts of other people that end up inside the program come with their licences.
const kBundled = ['marked'];
const inModules = (path: string) => fileURLToPath(new URL(`node_modules/${path}`, import.meta.url));

function licences(): Plugin {
  return {
    name: 'fathom-licences',
    apply: 'build',
    generateBundle() {
      const texts = kBundled.map((name) => {
        const { version } = JSON.parse(readFileSync(inModules(`${name}/package.json`), 'utf8'));
        return `${name} ${version}\n\n${readFileSync(inModules(`${name}/LICENSE`), 'utf8').trim()}\n`;
      });
      this.emitFile({ type: 'asset', fileName: 'assets/licences.txt', source: texts.join('\n\n') });
    },
  };
}

// Every asset also as FILE.gz: cmake/FathomWebPage.cmake embeds those, and CMake itself cannot compress.
function compressed(): Plugin {
  return {
    name: 'fathom-gzip',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_options, bundle) {
        for (const [name, part] of Object.entries(bundle)) {
          const content = part.type === 'chunk' ? part.code : part.source;
          this.emitFile({ type: 'asset', fileName: `${name}.gz`, source: gzipSync(content, { level: 9 }) });
        }
      },
    },
  };
}

export default defineConfig({
  base: './',  // the page works below any path of a reverse proxy
  publicDir: false,
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,  // data: URLs would need a wider content security policy
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 300,
  },
  server: {
    // `npm run dev` shows the page with live reload in front of a server that runs already.
    proxy: Object.fromEntries(
      ['/v1', '/metrics', '/health', '/tokenize'].map((path) => [
        path, { target: process.env.FATHOM_SERVER ?? 'http://127.0.0.1:8080', changeOrigin: true },
      ])),
  },
  plugins: [licences(), compressed()],
});
