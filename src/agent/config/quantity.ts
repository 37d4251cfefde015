import { z } from 'zod'
import { formatBytes } from '../../core/index.ts'
import { readDuration } from './duration.ts'

const SIZE_UNITS: Readonly<Record<string, number>> = { B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50 }

/** A time as `readDuration` reads it. Parsed to ms. */
export const duration = (least: number, most: number): z.ZodType<number, unknown> =>
  z
    .preprocess((value) => (typeof value === 'number' ? `${value}s` : value), z.string())
    .transform((text, context): number => {
      const read = readDuration(text, least, most)
      if ('ms' in read) return read.ms
      context.addIssue(read.wrong)
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
