import { AgentError } from '../../core/index.ts'

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}
/** Of a flag, ms. */
const LONGEST = 30 * 24 * 3_600_000

/** A time as `vcb.yaml` and flags write it, in ms: `500ms`, `90s`, `2m`, `1h`, `7d`, `2w`; a bare number is seconds. Otherwise what is wrong with it. */
export function readDuration(text: string, least: number, most: number): { readonly ms: number } | { readonly wrong: string } {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)?$/.exec(text.trim())
  const ms = match === null ? Number.NaN : Number(match[1]) * (UNITS[match[2] ?? 's'] ?? Number.NaN)
  if (ms >= least && ms <= most) return { ms: Math.round(ms) }
  return { wrong: `"${text}" is not a time from ${shown(least)} to ${shown(most)}; write 500ms, 90s, 2m or 1h` }
}

const shown = (ms: number): string =>
  ms < 1000 ? `${ms}ms` : ms < 60_000 ? `${ms / 1000}s` : ms < 48 * 3_600_000 ? `${ms / 60_000}m` : `${ms / 86_400_000}d`

/** A time given on the command line, in ms. USAGE naming the flag. */
export function parseDuration(flag: string, text: string): number {
  const read = readDuration(text, 0, LONGEST)
  if ('ms' in read) return read.ms
  throw new AgentError('USAGE', `The value of ${flag} is wrong: ${read.wrong}.`)
}

/** As `readDuration` reads it back, in the largest unit it is whole in: `500ms`, `90s`, `2m`, `12h`, `1w`. */
export function formatDuration(ms: number): string {
  const fits = [
    [7 * 86_400_000, 'w'],
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'm'],
    [1000, 's'],
  ] as const
  const unit = fits.find(([size]) => ms > 0 && ms % size === 0)
  return unit === undefined ? `${ms}ms` : `${ms / unit[0]}${unit[1]}`
}
