#include "train/report_page.h"

namespace fathom {

const std::string_view kReportHead = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
)html";

const std::string_view kReportStyle = R"html(<style>
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #16191d; --soft: #5b6470; --line: #dfe3e8; --grid: #eceff2;
  --a: #2563c9; --b: #c2410c; --c: #0f766e; --d: #7e3ba8; --range: #2563c92e; --mark: #8a94a0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101317; --card: #181c22; --text: #e8ebef; --soft: #98a2ae; --line: #2c333c; --grid: #232930;
    --a: #6ea8ff; --b: #ff9a5c; --c: #4fd1c1; --d: #cb93f5; --range: #6ea8ff33; --mark: #6d7884;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 40px; max-width: 1280px; background: var(--page); color: var(--text);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; }
h1 { font-size: 24px; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 15px; margin: 28px 0 10px; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 10px; margin: 18px 0 14px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.tile b { display: block; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 12px; }
.bar { display: flex; gap: 6px; align-items: center; margin: 6px 0 10px; color: var(--soft); }
button { font: inherit; font-size: 13px; color: var(--text); background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 10px; cursor: pointer; }
button[aria-pressed=true] { border-color: var(--a); color: var(--a); }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
.wide { grid-column: 1 / -1; }
@media (max-width: 820px) { .grid { grid-template-columns: minmax(0, 1fr); } body { padding: 16px 12px; } }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px 8px;
  min-width: 0; position: relative; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; margin-bottom: 4px; }
figcaption b { font-weight: 600; }
.key { font-size: 12px; color: var(--soft); white-space: nowrap; }
.key i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px; vertical-align: middle; }
svg { display: block; width: 100%; overflow: visible; }
svg text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.tip { position: absolute; pointer-events: none; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: 5px 8px; font-size: 12px; box-shadow: 0 2px 8px #0003; white-space: nowrap; display: none; z-index: 2;
  font-variant-numeric: tabular-nums; }
canvas { display: block; width: 100%; image-rendering: pixelated; border-radius: 3px; }
.scale { display: inline-block; width: 130px; height: 9px; border-radius: 2px; vertical-align: middle; margin: 0 6px; }
table { border-collapse: collapse; font-size: 13px; }
td { padding: 3px 22px 3px 0; border-bottom: 1px solid var(--grid); vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--soft); white-space: nowrap; }
.config { columns: 2 340px; column-gap: 36px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; }
.config div { display: flex; justify-content: space-between; gap: 16px; border-bottom: 1px solid var(--grid);
  padding: 3px 0; break-inside: avoid; }
.config div span:last-child { text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
footer { margin-top: 26px; font-size: 12px; color: var(--soft); }
</style>
<header><h1 id="name"></h1><span id="state" class="soft"></span></header>
<div class="tiles" id="tiles"></div>
<div class="bar" id="bar"></div>
<div class="grid" id="charts"></div>
<h2 id="config-title">Configuration</h2>
<div class="config" id="config"></div>
<footer id="footer"></footer>
)html";

const std::string_view kReportScript = R"html(<script>
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const el = (tag, text, cls) => { const e = document.createElement(tag); if (text != null) e.textContent = text; if (cls) e.className = cls; return e; };
const SVG = 'http://www.w3.org/2000/svg';
const svgEl = (tag, attributes, parent) => { const e = document.createElementNS(SVG, tag);
  for (const k in attributes) e.setAttribute(k, attributes[k]); if (parent) parent.appendChild(e); return e; };
const finite = v => v !== null && v !== undefined && Number.isFinite(v);

// ---- numbers for people ----
const SI = [[1e18, 'E'], [1e15, 'P'], [1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
function si(v, digits = 3) {
  if (!finite(v)) return '–';
  for (const [unit, letter] of SI) if (Math.abs(v) >= unit * .9995) return trim((v / unit).toPrecision(digits)) + ' ' + letter;
  return trim(v.toPrecision(digits));
}
function count(v) { const s = si(v); return s.replace(' G', ' B').replace(' k', ' K'); }
const trim = s => s.includes('e') ? String(+s) : s.includes('.') ? s.replace(/\.?0+$/, '') : s;
const fixed = n => v => finite(v) ? v.toFixed(n) : '–';
const plain = v => !finite(v) ? '–' : v === 0 ? '0' : Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5 ? v.toExponential(2).replace('e+', 'e').replace(/\.?0+e/, 'e') : trim(v.toPrecision(4));
const percent = v => finite(v) ? (100 * v).toFixed(v > 0 && v < .1 ? 1 : 0) + ' %' : '–';
function time(s) {
  if (!finite(s)) return '–';
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  return d ? d + ' d ' + h + ' h' : h ? h + ' h ' + m + ' min' : m ? m + ' min ' + Math.floor(s % 60) + ' s' : s.toFixed(1) + ' s';
}
const money = v => !finite(v) ? '–' : data.info.currency + ' ' + (v < 10 ? v.toFixed(v < .1 ? 4 : 2) : v < 1e5 ? v.toFixed(0) : si(v));

// ---- x axis ----
const axes = { tokens: ['Tokens', count], step: ['Steps', v => si(v, 4)], hours: ['Time', v => time(v * 3600)] };
let axis = 'tokens', logX = false;
const usable = k => data.x[k] && data.x[k].some(v => finite(v) && v > 0);

function ticks(low, high, want) {
  const raw = (high - low) / want, power = 10 ** Math.floor(Math.log10(raw)), r = raw / power;
  const step = power * (r < 1.5 ? 1 : r < 3.5 ? 2 : r < 7.5 ? 5 : 10), out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}
function logTicks(low, high) {
  const out = [], decades = Math.log10(high / low), marks = decades > 5 ? [1] : decades > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); ++p)
    for (const m of marks) { const v = m * 10 ** p; if (v >= low * .999 && v <= high * 1.001) out.push(v); }
  return out;
}
const sorted = a => a.filter(finite).sort((p, q) => p - q);
const quantile = (s, q) => s[Math.min(s.length - 1, Math.max(0, Math.round(q * (s.length - 1))))];

// ---- charts ----
// lines: [{name, color, x (of the axis), y, low, high, dots, faint}]; options: log, format, zero, skip.
const charts = [];
function addChart(title, lines, options) {
  lines = lines.filter(l => l && l.y && l.y.some(finite));
  if (!lines.length) return;
  const figure = el('figure', null, options.wide ? 'wide' : ''), caption = el('figcaption');
  caption.append(el('b', title));
  if (options.note) caption.append(el('span', options.note, 'soft'));
  if (lines.length > 1 || lines[0].low) for (const l of lines) {
    const key = el('span', null, 'key'), mark = el('i');
    mark.style.background = l.color; if (l.dots) { mark.style.width = mark.style.height = '8px'; mark.style.borderRadius = '50%'; }
    if (l.faint) mark.style.opacity = .45;
    key.append(mark, l.low && !l.faint ? l.name + ' (band: range of each bucket)' : l.name); caption.append(key);
  }
  const tip = el('div', null, 'tip'), svg = svgEl('svg', { role: 'img', 'aria-label': title });
  figure.append(caption, svg, tip); $('charts').append(figure);
  charts.push({ figure, svg, tip, lines, options });
}
function xRange() {
  let low = Infinity, high = -Infinity;
  for (const v of data.x[axis]) if (finite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
  if (!logX) low = Math.min(low, 0);
  if (logX) low = Math.max(low, high * 1e-6);
  return [low, high > low ? high : low + 1];
}
function yRange(chart) {
  const { lines, options } = chart;
  let values = [];
  for (const l of lines) {
    // The first steps of a run would squeeze all others: the scale begins behind them.
    const skip = options.skip && !l.dots && l.y.length > 60 ? Math.ceil(l.y.length * options.skip) : 0;
    values.push(...l.y.slice(skip)); if (l.low) values.push(...l.low.slice(skip)); if (l.high) values.push(...l.high.slice(skip));
  }
  values = sorted(options.log ? values.filter(v => v > 0) : values);
  if (!values.length) return [0, 1];
  let low = options.skip ? quantile(values, .0005) : values[0], high = options.skip ? quantile(values, .9985) : values[values.length - 1];
  if (options.log) { low /= 1.15; high *= 1.15; return high / low < 1.5 ? [low / 1.5, high * 1.5] : [low, high]; }
  if (options.zero) low = Math.min(0, low);
  const pad = (high - low || Math.abs(high) || 1) * .05;
  return [options.zero && low === 0 ? 0 : low - pad, high + pad];
}
let clipCount = 0;
function draw(chart) {
  const { svg, lines, options } = chart, width = svg.clientWidth || 560, height = options.wide ? 300 : 210;
  const left = 58, right = 10, top = data.stages.length > 1 ? 18 : 8, bottom = 24;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`); svg.style.height = height + 'px'; svg.replaceChildren();
  const [x0, x1] = xRange(), [y0, y1] = yRange(chart);
  const fx = logX ? Math.log : v => v, fy = options.log ? Math.log : v => v;
  const X = v => left + (fx(Math.max(v, logX ? x0 : -Infinity)) - fx(x0)) / (fx(x1) - fx(x0)) * (width - left - right);
  const Y = v => height - bottom - (fy(Math.max(v, options.log ? y0 * 1e-3 : -Infinity)) - fy(y0)) / (fy(y1) - fy(y0)) * (height - top - bottom);
  for (const v of options.log ? logTicks(y0, y1) : ticks(y0, y1, 5)) {
    svgEl('line', { x1: left, x2: width - right, y1: Y(v), y2: Y(v), stroke: 'var(--grid)' }, svg);
    svgEl('text', { x: left - 7, y: Y(v) + 4, 'text-anchor': 'end' }, svg).textContent = options.tick ? options.tick(v) : options.format(v);
  }
  for (const v of logX ? logTicks(x0, x1) : axis === 'hours' ? ticks(x0, x1, 5) : ticks(x0, x1, width > 700 ? 8 : 5)) {
    svgEl('line', { x1: X(v), x2: X(v), y1: height - bottom, y2: height - bottom + 4, stroke: 'var(--mark)' }, svg);
    svgEl('text', { x: X(v), y: height - 6, 'text-anchor': X(v) > width - 40 ? 'end' : 'middle' }, svg).textContent =
      axis === 'hours' ? (x1 < .2 ? trim((v * 3600).toPrecision(3)) + ' s' : x1 < 3 ? trim((v * 60).toPrecision(3)) + ' min' : trim(v.toPrecision(3)) + ' h') : axes[axis][1](v);
  }
  svgEl('line', { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, stroke: 'var(--line)' }, svg);
  if (data.stages.length > 1) for (const [i, stage] of data.stages.entries()) {
    const at = X(Math.max(stage[axis] || 0, x0)), next = data.stages[i + 1], end = next ? X(Math.max(next[axis] || 0, x0)) : width - right;
    if (i) svgEl('line', { x1: at, x2: at, y1: top, y2: height - bottom, stroke: 'var(--mark)', 'stroke-dasharray': '4 4' }, svg);
    if (end - at > 7 * stage.name.length + 8) svgEl('text', { x: at + 3, y: 11 }, svg).textContent = stage.name;
  }
  const clip = 'c' + ++clipCount, path = svgEl('clipPath', { id: clip }, svgEl('defs', {}, svg));
  svgEl('rect', { x: left, y: top, width: width - left - right, height: height - top - bottom }, path);
  const body = svgEl('g', { 'clip-path': `url(#${clip})` }, svg);
  for (const l of lines) {
    const xs = l.x ? l.x[axis] : data.x[axis];
    if (l.low && !l.faint) {
      const forth = [], back = [];
      l.y.forEach((_, i) => { if (finite(l.low[i]) && finite(xs[i])) { forth.push(X(xs[i]).toFixed(1) + ' ' + Y(l.high[i]).toFixed(1)); back.push(X(xs[i]).toFixed(1) + ' ' + Y(l.low[i]).toFixed(1)); } });
      if (forth.length) svgEl('path', { d: 'M' + forth.join('L') + 'L' + back.reverse().join('L') + 'Z', fill: l.color, opacity: .18 }, body);
    }
    let d = '', pen = false, points = 0;
    l.y.forEach((v, i) => { if (!finite(v) || !finite(xs[i])) { pen = false; return; } d += (pen ? 'L' : 'M') + X(xs[i]).toFixed(1) + ' ' + Y(v).toFixed(1); pen = true; ++points; });
    svgEl('path', { d, fill: 'none', stroke: l.color, 'stroke-width': l.faint ? 1 : 1.7, 'stroke-linejoin': 'round', opacity: l.faint ? .45 : 1, ...(l.dots ? { 'stroke-dasharray': '2 3', 'stroke-width': 1 } : {}) }, body);
    if (l.dots || points < 3) l.y.forEach((v, i) => { if (finite(v) && finite(xs[i])) svgEl('circle', { cx: X(xs[i]), cy: Y(v), r: l.y.length > 60 ? 2 : 3, fill: l.color }, body); });
  }
  const cursor = svgEl('line', { y1: top, y2: height - bottom, stroke: 'var(--mark)', visibility: 'hidden' }, svg);
  Object.assign(chart, { X, cursor, left, right, width });
}
function hover(event) {
  for (const chart of charts) {
    const box = chart.svg.getBoundingClientRect(), inside = event && chart.svg.parentNode === event.currentTarget;
    if (!event) { chart.cursor.setAttribute('visibility', 'hidden'); chart.tip.style.display = 'none'; continue; }
    if (inside) chart.pointer = event.clientX - box.left;
  }
  if (!event) return;
  const source = charts.find(c => c.figure === event.currentTarget), xs = data.x[axis];
  let best = -1, distance = Infinity;
  xs.forEach((v, i) => { if (finite(v)) { const d = Math.abs(source.X(v) - source.pointer); if (d < distance) { distance = d; best = i; } } });
  if (best < 0) return;
  for (const chart of charts) {
    const at = chart.X(xs[best]);
    chart.cursor.setAttribute('x1', at); chart.cursor.setAttribute('x2', at); chart.cursor.setAttribute('visibility', 'visible');
  }
  const at = source.X(xs[best]), tip = source.tip;
  tip.replaceChildren(el('div', 'step ' + data.x.step[best] + ', ' + count(data.x.tokens[best]) + ' tokens', 'soft'));
  for (const l of source.lines) {
    let i = best;
    if (l.x) { i = -1; l.x[axis].forEach((v, k) => { if (finite(v) && v <= xs[best] * 1.0000001) i = k; }); if (i < 0) continue; }
    if (!finite(l.y[i])) continue;
    const row = el('div', l.name + '  ' + source.options.format(l.y[i])); row.style.color = l.color; tip.append(row);
  }
  tip.style.display = 'block'; tip.style.top = '34px';
  tip.style.left = (at + 24 + tip.offsetWidth > source.width ? at - tip.offsetWidth : at + 24) + 'px';
}

// ---- heat maps of the experts' load: 1 is even ----
const dark = () => matchMedia('(prefers-color-scheme: dark)').matches;
const ramp = (stops, t) => { t = Math.min(1, Math.max(0, t)) * (stops.length - 1); const i = Math.min(stops.length - 2, Math.floor(t)), f = t - i;
  return stops[i].map((v, k) => Math.round(v + (stops[i + 1][k] - v) * f)); };
const even = () => dark() ? [42, 49, 58] : [241, 243, 246];
const LOW = [[37, 99, 201], null], HIGH = [null, [234, 120, 40], [160, 30, 20]];
function divergent(v) { // 0: none, 1: even, 4: four times as much
  if (!finite(v)) return [128, 128, 128];
  return v < 1 ? ramp([LOW[0], even()], v) : ramp([even(), HIGH[1], HIGH[2]], Math.log(v) / Math.log(4));
}
function heat(title, note, rows, xLabel, describe) {
  const figure = el('figure'), caption = el('figcaption'), scale = el('span', null, 'key'), strip = el('span', null, 'scale');
  caption.append(el('b', title), el('span', note, 'soft'), scale);
  const holder = el('div'), tip = el('div', null, 'tip'), foot = el('div', xLabel(), 'soft');
  foot.style.fontSize = '11px'; foot.style.textAlign = 'right'; foot.style.marginTop = '3px';
  figure.append(caption, holder, foot, tip); $('charts').append(figure);
  const columns = Math.max(...rows.map(r => r.length));
  const paint = () => {
    strip.style.background = 'linear-gradient(90deg,' + [0, .5, 1, 1.5, 2, 3, 4].map(v => `rgb(${divergent(v)}) ${v * 25}%`).join(',') + ')';
    scale.replaceChildren('0', strip, '4× even'); holder.replaceChildren();
    const canvas = document.createElement('canvas'); canvas.width = columns; canvas.height = rows.length;
    canvas.style.height = Math.min(260, Math.max(60, rows.length * 18)) + 'px'; canvas.style.marginLeft = '0';
    const c = canvas.getContext('2d');
    rows.forEach((row, y) => row.forEach((v, x) => { c.fillStyle = `rgb(${divergent(v)})`; c.fillRect(x, y, 1, 1); }));
    canvas.onmousemove = e => { const b = canvas.getBoundingClientRect(), x = Math.min(columns - 1, Math.floor((e.clientX - b.left) / b.width * columns)), y = Math.min(rows.length - 1, Math.floor((e.clientY - b.top) / b.height * rows.length));
      tip.textContent = describe(y, x, rows[y][x]); tip.style.display = 'block'; tip.style.top = e.clientY - b.top + 46 + 'px';
      tip.style.left = Math.min(e.clientX - b.left + 20, b.width - tip.offsetWidth) + 'px'; };
    canvas.onmouseleave = () => tip.style.display = 'none';
    holder.append(canvas);
  };
  paint(); matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
}

// ---- the page ----
const { info, now } = data;
$('name').textContent = info.name || 'Training run';
$('state').textContent = [info.device, now.state, now.resumed ? 'resumed ' + (now.resumed === 1 ? 'once' : now.resumed + ' times') : ''].filter(Boolean).join(' · ');
const tile = (value, label) => { if (value === null) return; const t = el('div', null, 'tile'); t.append(el('b', value), el('span', label)); $('tiles').append(t); };
const lastValidation = data.validation[data.validation.length - 1];
const median = s => s ? quantile(sorted(s.mean), .5) : null;
tile(finite(now.loss) ? now.loss.toFixed(3) : '–', 'training loss, smoothed');
if (lastValidation) tile(lastValidation.loss.toFixed(3), 'validation loss');
if (lastValidation && lastValidation.bits > 0) tile(lastValidation.bits.toFixed(3), 'bits per byte, validation');
tile(count(now.tokens), info.total_tokens > 0 ? 'tokens of ' + count(info.total_tokens) + ' (' + percent(now.tokens / info.total_tokens) + ')' : 'tokens');
if (info.parameters_total > 0) tile(count(info.parameters_total), 'parameters, ' + count(info.parameters_active) + ' active (' + percent(info.parameters_active / info.parameters_total) + ')');
if (finite(now.seconds)) tile(time(now.seconds), now.step + ' steps');
if (data.tokens_per_second) tile(si(median(data.tokens_per_second)), 'tokens/s, median');
if (data.flops_per_second) tile(si(median(data.flops_per_second)) + 'FLOP/s', data.peak_share ? percent(median(data.peak_share)) + ' of the measured ' + si(info.peak_flops) + 'FLOP/s' : 'model arithmetic, median');
if (finite(now.cost) && info.price_per_hour > 0) tile(money(now.cost), 'at ' + info.currency + ' ' + info.price_per_hour + ' an hour');

const line = (name, color, s, more) => s && { name, color, y: s.mean, low: s.low, high: s.high, ...more };
const validation = data.validation.length ? { name: 'validation', color: 'var(--b)', dots: true, y: data.validation.map(v => v.loss),
  x: { tokens: data.validation.map(v => v.tokens), step: data.validation.map(v => v.step), hours: data.validation.map(v => v.hours) } } : null;
addChart('Loss', [data.loss && { name: data.loss.low ? 'training, mean of each bucket' : 'training', color: 'var(--a)', faint: true, y: data.loss.mean, low: data.loss.low, high: data.loss.high },
  data.smooth && { name: 'smoothed', color: 'var(--a)', y: data.smooth }, validation], { wide: true, format: fixed(3), tick: plain, skip: .01, note: 'nats a token' });
addChart('MTP loss', [line('MTP loss', 'var(--c)', data.mtp_loss)], { format: fixed(3), tick: plain, skip: .01, note: 'of the token after the next' });
addChart('Gradient norm', [line('norm', 'var(--d)', data.gradient_norm)], { log: true, format: plain, note: 'before clipping' });
addChart('Learning rate', [data.learning_rate && { name: 'rate', color: 'var(--a)', y: data.learning_rate.mean }], { zero: true, format: plain });
addChart('Balance loss', [line('balance', 'var(--d)', data.balance_loss)], { format: plain, skip: .005, note: 'sequence-wise' });
addChart('Tokens per second', [line('tokens/s', 'var(--c)', data.tokens_per_second)], { zero: true, format: v => si(v) });
addChart('Arithmetic', [line('FLOP/s', 'var(--a)', data.flops_per_second)], { zero: true, format: v => si(v) + (Math.abs(v) >= 1e3 ? '' : ' ') + 'FLOP/s', tick: v => si(v) });
addChart('Share of the measured peak', [line('share', 'var(--b)', data.peak_share)], { zero: true, format: percent });
addChart('Cost so far', [data.cost && info.price_per_hour > 0 && { name: 'cost', color: 'var(--b)', y: data.cost }], { zero: true, format: money, tick: v => plain(v), note: info.currency + ', at ' + info.price_per_hour + ' an hour' });
if (data.load) {
  const load = data.load, x = { tokens: load.tokens, step: load.step, hours: load.hours };
  addChart('Expert load', [{ name: 'busiest', color: 'var(--b)', y: load.busiest, x }, { name: 'idlest', color: 'var(--a)', y: load.idlest, x },
    { name: 'variation (standard deviation)', color: 'var(--d)', y: load.variation, x }], { zero: true, format: fixed(2), tick: plain, note: '1 = an even share; mean over layers' });
  heat('Busiest expert of each layer', 'over the run; a row a layer', load.layers, () => 'step ' + load.step[0] + ' to ' + load.step[load.step.length - 1],
    (y, i, v) => 'MoE layer ' + (y + 1) + ', step ' + load.step[i] + ': ' + fixed(2)(v) + '× even');
  heat('Experts at the end', 'a row a layer, a column an expert', load.experts, () => load.experts[0].length + ' experts',
    (y, e, v) => 'MoE layer ' + (y + 1) + ', expert ' + e + ': ' + fixed(2)(v) + '× even');
}
for (const key in axes) {
  if (!usable(key)) continue;
  const b = el('button', axes[key][0]); b.setAttribute('aria-pressed', key === axis);
  b.onclick = () => { axis = key; for (const o of $('bar').querySelectorAll('button[data-axis]')) o.setAttribute('aria-pressed', o === b); charts.forEach(draw); };
  b.dataset.axis = key; $('bar').append(b);
}
const logButton = el('button', 'Logarithmic'); logButton.setAttribute('aria-pressed', 'false');
logButton.onclick = () => { logX = !logX; logButton.setAttribute('aria-pressed', logX); charts.forEach(draw); };
$('bar').prepend(el('span', 'Along:')); $('bar').append(logButton);
for (const chart of charts) { draw(chart); chart.figure.onmousemove = hover; chart.figure.onmouseleave = () => hover(null); }
let timer; addEventListener('resize', () => { clearTimeout(timer); timer = setTimeout(() => charts.forEach(draw), 60); });
const rows = [...info.config];
if (info.flops_per_token > 0) rows.push(['training FLOPs a token', si(info.flops_per_token)]);
if (info.flops_per_token > 0) rows.push(['training FLOPs so far', si(info.flops_per_token * now.tokens)]);
for (const [key, value] of rows) { const r = el('div'); r.append(el('span', key, 'soft'), el('span', value)); $('config').append(r); }
if (!rows.length) $('config').hidden = $('config-title').hidden = true;
$('footer').textContent = 'Written by fathom train. Curves of more than ' + 800 + ' steps show the mean and range of buckets.' + (now.skipped ? ' ' + now.skipped + ' lines of the metrics could not be read.' : '');
</script>
</html>
)html";

}  // namespace fathom
