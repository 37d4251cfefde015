import { AgentError } from '../core/index.ts'
import { type Span, parseSpan } from './span.ts'

/** Rules that keep a number of points: the newest ones, or the newest of each of the newest periods. */
export const COUNTED_RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
export type CountedRule = (typeof COUNTED_RULES)[number]

/** What to keep of each VM; a point that one rule keeps is kept. Counts are whole numbers, absent = 0. */
export type RetentionPolicy = { readonly [Rule in CountedRule]?: number | undefined } & {
  /** Everything at most so much older than the newest point, or than now when that is earlier. */
  readonly within?: Span | undefined
  /** Points that carry all tags of one of these lists, however old. */
  readonly keepTags?: readonly (readonly string[])[] | undefined
}

/** More points than any VM has; a larger count is a slip of the keyboard. */
const MOST = 1_000_000

/** The policy as flags or a configuration file write it: counts, `within: 14d`, `keepTags: ['hold', 'a,b']` (a and b). USAGE naming the rule. */
export function parsePolicy(
  text: { readonly [Rule in CountedRule]?: string | number | undefined } & {
    readonly within?: string | undefined
    readonly keepTags?: readonly string[] | undefined
  },
): RetentionPolicy {
  const counts: { [Rule in CountedRule]?: number } = {}
  for (const rule of COUNTED_RULES) {
    const value = text[rule]
    if (value !== undefined) counts[rule] = parseCount(rule, value)
  }
  const keepTags = text.keepTags?.map((list) =>
    list
      .split(',')
      .map((tag) => tag.trim())
      .filter((tag) => tag !== ''),
  )
  if (keepTags?.some((list) => list.length === 0)) throw new AgentError('USAGE', 'A tag to keep is empty.', { next: 'Name the tag.' })
  return Object.freeze({
    ...counts,
    ...(text.within === undefined ? {} : { within: parseSpan(text.within) }),
    ...(keepTags === undefined || keepTags.length === 0 ? {} : { keepTags }),
  })
}

function parseCount(rule: CountedRule, value: string | number): number {
  const count = typeof value === 'number' ? value : /^\d+$/u.test(value.trim()) ? Number(value) : Number.NaN
  if (Number.isInteger(count) && count >= 0 && count <= MOST) return count
  throw new AgentError(
    'USAGE',
    `The number of points to keep (${rule}) is ${JSON.stringify(value)}, not a whole number from 0 to ${MOST}.`,
    {
      subject: rule,
    },
  )
}

/** A policy by which nothing would be kept but for what no policy can remove. */
export function isEmptyPolicy(policy: RetentionPolicy): boolean {
  const { within, keepTags } = policy
  const spans = within !== undefined && within.years + within.months + within.days + within.hours > 0
  return COUNTED_RULES.every((rule) => (policy[rule] ?? 0) <= 0) && !spans && (keepTags ?? []).length === 0
}
