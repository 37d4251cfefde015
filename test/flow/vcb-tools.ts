import { execFile } from 'node:child_process'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { tool } from '../../src/cli/main.ts'
import type { CommandResult, LabSession } from './lab-session.ts'

const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts')
const NAMES = ['vcbVmName', 'vcbMounter', 'vcbSnapAll', 'vcbSnapshot', 'vcbRestore', 'vcbUtil', 'vcbCleanup', 'mountvm']

/** The commands of Consolidated Backup in one lab session. */
export type VcbTools = {
  /** Runs one in this process, with other environment variables. */
  runWith(changed: Readonly<Record<string, string | undefined>>, name: string, ...argv: readonly string[]): Promise<CommandResult>
  run(name: string, ...argv: readonly string[]): Promise<CommandResult>
  /** Standard output of one that must succeed. */
  out(name: string, ...argv: readonly string[]): Promise<string>
  /** Runs a shell script that finds them on its PATH; its output. Rejects when it fails. */
  script(text: string, ...argv: readonly string[]): Promise<{ stdout: string; stderr: string }>
}

export function vcbTools(session: LabSession): VcbTools {
  const runWith: VcbTools['runWith'] = async (changed, name, ...argv) => {
    let out = ''
    let err = ''
    const exit = await tool(name, argv, {
      environment: { ...session.environment, ...changed },
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      interactive: false,
      signal: new AbortController().signal,
    })
    return { exit, out, err, json: () => JSON.parse(out) }
  }
  const run: VcbTools['run'] = (name, ...argv) => runWith({}, name, ...argv)
  return {
    runWith,
    run,
    out: async (name, ...argv) => {
      const result = await run(name, ...argv)
      expect({ exit: result.exit, err: result.exit === 0 ? '' : result.err }).toEqual({ exit: 0, err: '' })
      return result.out
    },
    script: async (text, ...argv) => {
      const bin = join(session.directory, 'bin')
      await mkdir(bin, { recursive: true })
      for (const name of NAMES) {
        try {
          await symlink(join(SCRIPTS, `${name}.cjs`), join(bin, name))
        } catch (error) {
          if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
        }
      }
      const path = join(session.directory, 'script.sh')
      await writeFile(path, text, { mode: 0o700 })
      return promisify(execFile)('sh', [path, ...argv], {
        cwd: session.directory,
        env: { ...process.env, ...session.environment, PATH: `${bin}:${process.env['PATH']}` },
      })
    },
  }
}

/** The references that vcbVmName printed. */
export const morefs = (text: string): string[] => [...text.matchAll(/^moref:(.*)$/gm)].map(([, moref = '']) => moref)
