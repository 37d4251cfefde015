import { isTest } from './check-layers.ts'
import { codeOf, lineAt, type Finding, type SourceFile } from './source-text.ts'

/** Words that are refused outside the one place made for them. `in` limits a ban to some paths; `except` names that place. */
type Ban = {
  readonly what: string
  readonly pattern: RegExp
  readonly in: RegExp
  readonly except?: RegExp
  /** Tests are code too for some bans, and not for others. */
  readonly tests: boolean
  /** What is searched besides code: string literals, or those and comments. */
  readonly also?: 'strings' | 'everything'
  /** Allowed where a comment within the three lines above says why. */
  readonly unlessExplained?: boolean
}

const SRC = /^src\//
const CODE = /^(?:src|test|scripts|bench|integrations)\//
const CLOCK = { in: SRC, except: /^src\/core\/clock\.ts$/, tests: false } as const
/** The lab is the other side of the wire: what it changes is nobody's effect. */
const AGENT = /^src\/(?!lab\/)/
/** An import of a module for its types, or for nothing but these names. */
const onlyImported = (names: string): string =>
  `(?<!\\bimport\\s+(?:type\\s*\\{[^}]*|\\{\\s*(?:(?:type\\s+\\w+${names})(?:\\s+as\\s+\\w+)?\\s*,?\\s*)+)\\}\\s*from\\s*)`
const module = (names: string): string => `(?<=\\b(?:from|import|require)\\s*\\(?\\s*)['"\`](?:node:)?(?:${names})['"\`]`
const READING = '|access|constants|lstat|opendir|read|readdir|readFile|readlink|readSync|realpath|stat|statfs'
/** The checks and their tests name what they refuse. */
const THE_CHECKS = /^(?:scripts\/check-bans\.ts|test\/checks\/)/

export const BANS: readonly Ban[] = [
  { what: 'reads the time past core/clock.ts (Date.now)', pattern: /\bDate\s*\.\s*now\b/g, ...CLOCK },
  { what: 'reads the time past core/clock.ts (new Date())', pattern: /\bnew\s+Date\b(?!\s*\(\s*[^)\s])/g, ...CLOCK },
  {
    what: 'reads the time past core/clock.ts (performance.now)',
    pattern: /\bperformance\s*\.\s*now\b|\bprocess\s*\.\s*hrtime\b/g,
    ...CLOCK,
  },
  {
    what: 'starts a timer past core/clock.ts',
    pattern: /(?<![.\w]|\bfunction\s+)(?:globalThis\s*\.\s*)?\bset(?:Timeout|Interval)\b(?!\s*[:?]|\??\s*\([^)]*\)\s*:)/g,
    ...CLOCK,
  },
  { what: 'starts a timer past core/clock.ts (AbortSignal.timeout)', pattern: /\bAbortSignal\s*\.\s*timeout\b/g, ...CLOCK },
  {
    what: 'starts a timer past core/clock.ts (node:timers; setImmediate alone is no timer)',
    pattern: /\bimport\b(?!\s*\{\s*setImmediate(?:\s+as\s+\w+)?\s*\})[^'";]*['"](?:node:)?timers(?:\/promises)?['"]/g,
    ...CLOCK,
    also: 'strings',
  },
  { what: 'uses Math.random; ids and seeds come from the composition root', pattern: /\bMath\s*\.\s*random\b/g, in: SRC, tests: false },
  {
    what: 'gives up certificate checking; only the pinning connectors may, because they compare the fingerprint themselves',
    pattern: /\brejectUnauthorized\b['"]?\s*[:=](?!\s*true\b)/g,
    in: SRC,
    except: /^src\/(?:vsphere\/trust|nfc\/pinned-tls|restic\/rest\/server-trust)\.ts$/,
    tests: false,
    also: 'strings',
  },
  {
    what: 'names NODE_TLS_REJECT_UNAUTHORIZED, which switches certificate checking off for the whole process',
    pattern: /NODE_TLS_REJECT_UNAUTHORIZED/g,
    in: CODE,
    except: THE_CHECKS,
    tests: true,
    also: 'everything',
  },
  {
    what: 'ends the process; only the entry of the command may',
    pattern: /\bprocess\s*\.\s*(?:exit|abort|reallyExit)\b(?!Code)/g,
    in: SRC,
    except: /^src\/cli\/main\.ts$/,
    tests: false,
  },
  {
    what: 'swallows an error without saying why',
    pattern: /\.catch\(\s*\(?\s*\w*\s*\)?\s*=>\s*(?:\{\s*\}|undefined|null|void 0)\s*,?\s*\)/g,
    in: CODE,
    except: THE_CHECKS,
    tests: false,
    unlessExplained: true,
  },
  {
    what: 'silences the type checker',
    pattern: /@ts-(?:ignore|nocheck|expect-error)\b/g,
    in: CODE,
    except: THE_CHECKS,
    tests: true,
    also: 'everything',
  },
  {
    what: 'changes files past core/files.ts, where each change is an effect; of node:fs only what reads may be imported, by name',
    pattern: new RegExp(onlyImported(READING) + module('fs|fs/promises'), 'g'),
    in: AGENT,
    except: /^src\/core\/files\.ts$/,
    tests: false,
    also: 'strings',
  },
  {
    what: 'starts or ends a process past core/programs.ts, core/program-group.ts, nbd/server-program.ts, provider/owned-program.ts and agent/holder-process.ts, where both are effects',
    pattern: new RegExp(
      `${onlyImported('')}${module('child_process|cluster')}|\\bprocess\\s*\\.\\s*kill\\b(?!\\s*\\([^()]*,\\s*0\\s*\\))`,
      'g',
    ),
    in: AGENT,
    except: /^src\/(?:core\/(?:programs|program-group)|nbd\/server-program|provider\/owned-program|agent\/holder-process)\.ts$/,
    tests: false,
    also: 'strings',
  },
  {
    what: 'speaks to the network past vsphere/http-client.ts and trust.ts, nfc/dial.ts and pinned-tls.ts, nbd/dial.ts and server.ts, ssh/dial.ts, restic/rest/, restic/s3/s3-client.ts, api/api.ts, certificate.ts, client.ts and socket-listener.ts, the channels of notices/, where calls and uploads are effects',
    pattern: new RegExp(
      `${onlyImported('|isIP|isIPv6')}${module('undici|net|tls|https?|http2|dgram|inspector|ssh2|nodemailer')}|\\bnodeTls\\b|(?<![.#\\w])(?:fetch|WebSocket|EventSource)\\s*\\(`,
      'g',
    ),
    in: AGENT,
    // cli/lab asks a running lab on this machine; core only hands Node's module over.
    except:
      /^src\/(?:vsphere\/(?:http-client|trust)|nfc\/(?:dial|pinned-tls)|nbd\/(?:dial|server)|ssh\/dial|restic\/(?:rest\/(?:rest-client|server-trust)|s3\/s3-client)|api\/(?:api|certificate|client|socket-listener)|notices\/(?:mail-channel|webhook-channel|syslog-dial)|cli\/lab|core\/(?:node-tls|index))\.ts$/,
    tests: false,
    also: 'strings',
  },
  {
    what: 'opens a database past state/, where every transaction is an effect',
    pattern: new RegExp(onlyImported('') + module('sqlite|pg|pg-pool|pg-boss'), 'g'),
    in: AGENT,
    except: /^src\/state\/(?:state|lock-ends|pg-pool|pg-queue)\.ts$/,
    tests: false,
    also: 'strings',
  },
  {
    what: 'reaches system calls that no other check sees; only core/native-library.ts, core/node-tls.ts and restic/sodium.ts may',
    pattern: new RegExp(`\\bgetBuiltinModule\\b|\\bcreateRequire\\b|${onlyImported('')}${module('ffi|module')}`, 'g'),
    in: AGENT,
    except: /^src\/(?:core\/(?:native-library|node-tls)|restic\/sodium)\.ts$/,
    tests: false,
    also: 'strings',
  },
  { what: 'leaves work for later', pattern: /\b(?:TODO|FIXME|XXX)\b/g, in: CODE, except: THE_CHECKS, tests: true, also: 'everything' },
  {
    what: 'mocks a module; use a real implementation',
    pattern: /\b(?:vi|vitest)\s*\.\s*(?:mock|doMock|hoisted)\b|\bmock\s*\.\s*module\b/g,
    in: CODE,
    except: THE_CHECKS,
    tests: true,
  },
  { what: 'runs only this test', pattern: /\b(?:it|test|describe)\s*\.\s*only\b/g, in: CODE, except: THE_CHECKS, tests: true },
]

/** Searches code for every ban. */
export function checkBans(files: readonly SourceFile[]): Finding[] {
  return files.filter((file) => /\.[cm]?[jt]sx?$/.test(file.path)).flatMap(checkFile)
}

function checkFile(file: SourceFile): Finding[] {
  const { path, text } = file
  const searched = { code: codeOf(text, 'blank'), strings: codeOf(text, 'keep'), everything: text }
  const lines = text.split('\n')
  const explained = (line: number): boolean => lines.slice(Math.max(0, line - 4), line).some((each) => each.includes('//'))
  return BANS.filter((ban) => ban.in.test(path) && ban.except?.test(path) !== true && (ban.tests || !isTest(path))).flatMap((ban) =>
    [...searched[ban.also ?? 'code'].matchAll(ban.pattern)]
      .map((match) => ({ path, line: lineAt(text, match.index), what: ban.what }))
      .filter(({ line }) => ban.unlessExplained !== true || !explained(line)),
  )
}
