import { z } from 'zod'
import { ERROR_CODES, type ErrorCode } from '../core/index.ts'

/** What a schema describes, as those who make it and those who read it hold it: unchangeable all the way down. */
export type View<Schema extends z.ZodType> = DeepReadonly<z.output<Schema>>

type DeepReadonly<T> = T extends readonly (infer E)[]
  ? readonly DeepReadonly<E>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T

/** Longest name, id, expression or path a caller may send, characters. */
export const LONGEST_TEXT = 512

/** Text of a caller: bounded, not empty, without control characters. */
export const text = z
  .string()
  .min(1)
  .max(LONGEST_TEXT)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  .regex(/^[^\u0000-\u001f\u007f]*$/u, 'no control characters')

/** A moment in ISO 8601. */
export const moment = z.iso.datetime({ offset: true }).describe('ISO 8601')

export const bytes = z.number().nonnegative().describe('bytes')
export const milliseconds = z.number().describe('ms')
export const count = z.int().nonnegative()

export const errorCode = z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]])

/** An error as a value: the code of docs/errors.md, what happened, and what to do next. */
export const errorView = z.object({ code: errorCode, message: z.string(), next: z.string().optional(), subject: z.string().optional() })

/** A VM as selection finds it. */
export const vmView = z.object({
  moref: z.string(),
  name: z.string(),
  instanceUuid: z.string(),
  biosUuid: z.string(),
  vcenterUuid: z.string(),
  path: z.string(),
})

export const mode = z.enum(['full', 'incremental'])
export const result = z.enum(['succeeded', 'failed', 'canceled'])
