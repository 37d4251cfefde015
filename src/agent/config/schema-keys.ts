import type { z } from 'zod'

type Def = {
  readonly type: string
  readonly innerType?: z.core.$ZodType
  readonly in?: z.core.$ZodType
  readonly out?: z.core.$ZodType
  readonly element?: z.core.$ZodType
  readonly valueType?: z.core.$ZodType
  readonly options?: readonly z.core.$ZodType[]
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>
}

/** The keys that a schema knows at a place: what else could have been meant. */
export function keysAt(schema: z.core.$ZodType, path: readonly (string | number)[]): readonly string[] {
  const [step, ...rest] = path
  return unwrapped(schema).flatMap(({ shape, element, valueType }) => {
    if (step === undefined) return Object.keys(shape ?? {})
    const next = shape?.[step] ?? element ?? valueType
    return next === undefined ? [] : keysAt(next, rest)
  })
}

/** What lies under optional, refined and piped schemas, and all forms of a union. */
function unwrapped(schema: z.core.$ZodType): readonly Def[] {
  const def = schema._zod.def as Def
  const under = [def.innerType, def.in, def.out, ...(def.options ?? [])].filter((each) => each !== undefined)
  return under.length === 0 ? [def] : under.flatMap(unwrapped)
}

/** Every key of a schema down to values, `limits.disksPerVm`; lists and maps of names count as values. */
export function leavesOf(schema: z.core.$ZodType, before = ''): readonly string[] {
  const shapes = unwrapped(schema).flatMap(({ shape }) => (shape === undefined ? [] : [shape]))
  const [shape] = shapes
  if (shape === undefined || shapes.length > 1) return [before]
  return Object.entries(shape).flatMap(([key, value]) => leavesOf(value, before === '' ? key : `${before}.${key}`))
}
