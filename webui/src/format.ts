// Numbers as people read them.

const kCount = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(value: number): string {
  return kCount.format(value);
}

/** 1234567 -> "1.2M". */
export function short(value: number): string {
  if (value < 10_000) return count(value);
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]] as const) {
    // 999,950 and up would round to "1000k".
    if (value >= size * 0.99995) return `${(value / size).toFixed(value < 9.95 * size ? 1 : 0)}${unit}`;
  }
  return count(value);
}

export function bytes(value: number): string {
  for (const [unit, size] of [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]] as const) {
    if (value >= size * 0.9995) return `${(value / size).toFixed(value < 9.95 * size ? 1 : 0)} ${unit}`;
  }
  return `${count(value)} B`;
}

export function seconds(value: number): string {
  if (value < 0.0995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 89.5) return `${Math.round(value)} s`;
  if (value < 5370) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export function rate(value: number): string {
  return value < 9.95 ? value.toFixed(1) : short(Math.round(value));
}

/** Never "100 %" for less than everything, nor "0 %" for more than nothing. */
export function percent(part: number, whole: number): string {
  if (whole <= 0) return '–';
  const share = (100 * part) / whole;
  if (share > 99.5 && part < whole) return `${(Math.floor(share * 10) / 10).toFixed(1)} %`;
  if (share > 0 && share < 0.95) return `${Math.max(0.1, share).toFixed(1)} %`;
  return `${Math.round(share)} %`;
}
