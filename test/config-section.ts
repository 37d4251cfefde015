import { parse } from 'yaml'
import { z } from 'zod'
import type { ConfigFlags } from '../src/agent/config/flags.ts'
import { type Environment, type FileOf, type Given, givenOver } from '../src/agent/config/given.ts'

/** One section of vcb.yaml read as the whole file is, from a file in `/etc/vcb`. */
export function readSection<Keys extends z.ZodRawShape, Config>(
  keys: Keys,
  of: (file: FileOf<Keys>, given: Given) => Config,
  text = '',
  { flags = {}, environment = {} }: { readonly flags?: ConfigFlags; readonly environment?: Environment } = {},
): Config {
  return of(z.strictObject(keys).parse(parse(text) ?? {}) as FileOf<Keys>, givenOver(flags, environment, '/etc/vcb'))
}
