import type { CommandSession } from '../session.ts'
import type { CliIo } from '../io.ts'
import type { CommandFlags } from '../options.ts'
import type { FlagSpec, ToolFlags } from './flags.ts'
import type { ToolSettings } from './settings.ts'

/** One of the VCB commands. */
export type Tool = {
  readonly name: string
  /** What --help prints, before the examples. */
  readonly help: string
  /** Command lines as somebody may have them in a script. */
  readonly examples: readonly string[]
  /** What the exit statuses mean here that a script may want to tell apart. */
  readonly exits: Readonly<Record<number, string>>
  readonly flags: FlagSpec
  /** Does it; the exit status. Called once a process. */
  readonly run: (call: ToolCall) => Promise<number>
}

/** A command line of a VCB command with what it has to do its work. */
export type ToolCall = {
  readonly tool: Tool
  readonly io: CliIo
  readonly flags: ToolFlags
  readonly settings: ToolSettings
  /** Flags as the commands of `vcb` have them, with what `-h`, `-u` and `-L` say; `more` is laid over them. */
  readonly withAgent: <T>(body: (session: CommandSession) => Promise<T>, more?: CommandFlags) => Promise<T>
}

/** All that --help prints. */
export const helpOf = ({ help, examples, exits }: Tool): string =>
  `${help}
Examples:
${examples.map((line) => `  ${line}\n`).join('')}
Exit codes, those of "vcb" (docs/errors.md); here in particular:
${[[0, 'done'], ...Object.entries(exits)].map(([code = '', means]) => `  ${String(code).padEnd(4)}${means}\n`).join('')}`

export const LOGIN_HELP = `
Login, also where a flag is left out: environment (VCB_VCENTER, VCB_USER, VCB_PASSWORD_FILE, VCB_THUMBPRINT ...), config.js (VCB_CONFIG_JS),
backuptools.conf, vcb.yaml, in this order; see "vcb help connection".

  -h HOST[:PORT]  vCenter or ESXi
  -u USER         login name
  -p PASSWORD     refused unless vcb.yaml says "vcbTools: { passwordArgument: true }": every user of this machine can read it. Keep it in a file
  -L 0..6         how much is logged to standard error: 0 errors alone, 6 everything
`
