import { z } from 'zod'
import { printable } from '../core/index.ts'

/** Characters of one sentence, and how many sentences. */
const LONGEST = 1000
const MOST = 20

/** What a program may say of itself beside its exit status. */
export type StageAnswer = {
  /** Why it skips the VM, or failed. */
  readonly reason: string | undefined
  readonly warnings: readonly string[]
  /** Why what it printed could not be understood. */
  readonly problem: string | undefined
}

const sentence = z.string().min(1).max(LONGEST)
const answer = z.strictObject({ version: z.literal(1), reason: sentence.optional(), warnings: z.array(sentence).max(MOST).optional() })

const NOTHING: StageAnswer = Object.freeze({ reason: undefined, warnings: [], problem: undefined })

/**
 * Reads what a program printed: an answer when it begins with `{`, words for the log otherwise. Never throws; what is no answer is told as a problem. `cut`: it printed
 * more than was read. docs/formats/stage-program.md.
 */
export function parseStageAnswer(output: Uint8Array, cut: boolean): StageAnswer {
  const text = new TextDecoder('utf-8').decode(output).trim()
  if (!text.startsWith('{')) return NOTHING
  if (cut) return { ...NOTHING, problem: 'it is longer than 64 KiB' }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { ...NOTHING, problem: 'it is no JSON object' }
  }
  const { success, data, error } = answer.safeParse(value)
  if (success) {
    const { reason, warnings = [] } = data
    return { reason: reason === undefined ? undefined : printable(reason), warnings: warnings.map(printable), problem: undefined }
  }
  const issue = error.issues[0]
  const at = (issue?.path ?? []).join('.')
  return { ...NOTHING, problem: printable(`${at === '' ? '' : `${at}: `}${issue?.message ?? 'it has another form'}`.slice(0, LONGEST)) }
}
