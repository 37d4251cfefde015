import { z } from 'zod'
import { COUNTED_RULES, isEmptyPolicy, parsePolicy, parseSpan, type RetentionPolicy } from '../../schedule/index.ts'
import { checkedBy, listOf } from './list-of.ts'

const count = z.int().min(0).max(1_000_000)

/** What is kept of each VM; docs/retention.md. A policy that would keep nothing is refused. */
export const retention = z
  .strictObject({
    last: count.optional(),
    hourly: count.optional(),
    daily: count.optional(),
    weekly: count.optional(),
    monthly: count.optional(),
    yearly: count.optional(),
    within: checkedBy(parseSpan).optional(),
    keepTags: listOf(checkedBy((text) => parsePolicy({ keepTags: [text] }))).optional(),
  })
  .refine((file) => !isEmptyPolicy(parsePolicy(file)), {
    error: `it keeps nothing; say how much, with ${COUNTED_RULES.join(', ')}, within or keepTags`,
  })
  .transform((file): RetentionPolicy => parsePolicy(file))
