import { z } from 'zod'
import { AgentError } from '../../core/index.ts'

/** One value, or a list of them. */
export const listOf = <T>(one: z.ZodType<T, unknown>): z.ZodType<readonly T[], unknown> =>
  z.preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(one).max(1000))

/** A text that `read` understands; its error, with what to do, is the problem told. */
export const readBy = <T>(read: (text: string) => T): z.ZodType<T, unknown> =>
  z.string().transform((text, context): T => {
    try {
      return read(text)
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      context.addIssue(`${error.message} ${error.next}`)
      return z.NEVER
    }
  })

/** A text that is kept as it is when `read` understands it. */
export const checkedBy = (read: (text: string) => unknown): z.ZodType<string, unknown> =>
  readBy((text) => {
    read(text)
    return text
  })
