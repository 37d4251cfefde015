import { z } from 'zod'
import { AgentError, formatBytes } from '../../core/index.ts'

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}
const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50 }

/** A time as `vcb.yaml` and flags write it: `500ms`, `90s`, `2m`, `1h`, `7d`, `2w`; a bare number is seconds. Parsed to ms. */
export const duration = (least: number, most: number): z.ZodType<number, unknown> =>
  z
    .preprocess((value) => (typeof value === 'number' ? `${value}s` : value), z.string())
    .transform((text, context): number => {
      const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)?$/.exec(text.trim())
      const ms = match === null ? Number.NaN : Number(match[1]) * (DURATION_UNITS[match[2] ?? 's'] ?? Number.NaN)
      if (ms >= least && ms <= most) return Math.round(ms)
      context.addIssue(`"${text}" is not a time from ${shown(least)} to ${shown(most)}; write 500ms, 90s, 2m or 1h`)
      return z.NEVER
    })

/** An amount of space: `5 GiB`, `500M`, `10%`. */
export type SpaceAmount = { readonly bytes: number } | { readonly percent: number }

export const spaceAmount: z.ZodType<SpaceAmount, unknown> = z
  .preprocess((value) => (typeof value === 'number' ? String(value) : value), z.string())
  .transform((text, context): SpaceAmount => {
    const match = /^(\d+(?:\.\d+)?)\s*(%|(?:[KMGTP](?:iB|B)?|B)?)$/.exec(text.trim())
    const value = Number(match?.[1])
    if (match?.[2] === '%' && value <= 90) return { percent: value }
    const bytes = Math.round(value * (SIZE_UNITS[(match?.[2] ?? '').charAt(0) || 'B'] ?? Number.NaN))
    if (match !== null && match[2] !== '%' && Number.isSafeInteger(bytes)) return { bytes }
    context.addIssue(`"${text}" is not an amount of space; write 5GiB, 500MiB or 5% (at most 90%)`)
    return z.NEVER
  })

/** An amount of bytes: `48MiB`. */
export const byteSize = (least: number, most: number): z.ZodType<number, unknown> =>
  spaceAmount.transform((amount, context): number => {
    if ('bytes' in amount && amount.bytes >= least && amount.bytes <= most) return amount.bytes
    context.addIssue(`it is not an amount from ${formatBytes(least)} to ${formatBytes(most)}; write 48MiB`)
    return z.NEVER
  })

/** A rate that holds always, or from one minute of the day to another (local time, the end left out, over midnight too). */
export type BandwidthRule = { readonly bytesPerSecond: number; readonly hours?: { readonly from: number; readonly to: number } | undefined }

const bandwidthRule = z.string().transform((text, context): BandwidthRule => {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT])(?:iB|B)?\/s(?:\s+(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d))?$/.exec(text.trim())
  const bytesPerSecond = Math.round(Number(match?.[1]) * (SIZE_UNITS[match?.[2] ?? ''] ?? Number.NaN))
  const times = (match ?? []).slice(3).map(Number)
  const [fromHour = 0, fromMinute = 0, toHour = 0, toMinute = 0] = times
  const [from, to] = [fromHour * 60 + fromMinute, toHour * 60 + toMinute]
  const sound = from < 1440 && to <= 1440 && fromMinute < 60 && toMinute < 60
  if (bytesPerSecond > 0 && match?.[3] === undefined) return { bytesPerSecond }
  if (bytesPerSecond > 0 && sound && from !== to) return { bytesPerSecond, hours: { from, to } }
  context.addIssue(`"${text}" is not a bandwidth; write 200MiB/s, or 50MiB/s 08:00-18:00`)
  return z.NEVER
})

/** `200MiB/s`; several as a list or with commas between: `200MiB/s, 50MiB/s 08:00-18:00`. */
export const bandwidth: z.ZodType<readonly BandwidthRule[], unknown> = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',') : value),
  z.array(bandwidthRule).min(1).max(48),
)

/** Bytes a second at a moment: of the first rule whose hours it lies in, else of the first that has none; undefined = no limit. */
export function bandwidthAt(rules: readonly BandwidthRule[], now: Date): number | undefined {
  const minute = now.getHours() * 60 + now.getMinutes()
  const inside = ({ hours }: BandwidthRule): boolean =>
    hours !== undefined && (hours.from < hours.to ? minute >= hours.from && minute < hours.to : minute >= hours.from || minute < hours.to)
  return (rules.find(inside) ?? rules.find(({ hours }) => hours === undefined))?.bytesPerSecond
}

const shown = (ms: number): string =>
  ms < 1000 ? `${ms}ms` : ms < 60_000 ? `${ms / 1000}s` : ms < 48 * 3_600_000 ? `${ms / 60_000}m` : `${ms / 86_400_000}d`

/** A time given on the command line, in ms. USAGE naming the flag. */
export function parseDuration(flag: string, text: string): number {
  const parsed = duration(0, 30 * 24 * 3_600_000).safeParse(text)
  if (parsed.success) return parsed.data
  throw new AgentError('USAGE', `The value of ${flag} is wrong: ${parsed.error.issues[0]?.message ?? 'not accepted'}.`)
}

/** As `duration` reads it back, in the largest unit it is whole in: `500ms`, `90s`, `2m`, `12h`, `1w`. */
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
