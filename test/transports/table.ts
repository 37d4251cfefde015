import { formatBytes } from '../../src/core/index.ts'
import { compareDisk, type Line, makeChain } from './compare.ts'
import { diskKinds, scenarioOf } from './disk-kinds.ts'
import { TRANSPORTS } from './transports.ts'
import { openTransportWorld } from './world.ts'

export type TableResult = {
  readonly lines: readonly Line[]
  /** What of all reads is left at the lab. */
  readonly left: readonly string[]
}

/** Reads every kind of disk by every transport in a lab of its own. `mib` = size of the ordinary disks; `say` hears each line as it is done. */
export async function readEverything(
  { mib, only = '' }: { readonly mib: number; readonly only?: string },
  say: (line: Line) => void = () => undefined,
): Promise<TableResult> {
  const kinds = diskKinds(mib).filter(({ name }) => name.includes(only))
  await using world = await openTransportWorld(scenarioOf(kinds))
  const lines: Line[] = []
  for (const kind of kinds) {
    await makeChain(world, kind)
    for (const line of await compareDisk(world, kind)) {
      lines.push(line)
      say(line)
    }
  }
  return { lines, left: await world.left() }
}

const COLUMN = 20
const heads = ['disk', 'links', 'bytes', 'mode']
const widths = [24, 6, 16, 8]

export const tableHead = (): string => row([...heads, ...TRANSPORTS.map(({ name }) => name)])

export const tableLine = ({ kind, links, mode, cells }: Line): string =>
  row([
    kind.name,
    String(links),
    String(kind.size),
    mode,
    ...cells.map(({ bytes, whole, wrong }) => {
      const what = wrong === undefined ? 'equal' : 'WRONG'
      return `${formatBytes(bytes)} ${what}${whole && mode === 'changed' ? ' (whole)' : ''}`
    }),
  ])

const row = (cells: readonly string[]): string =>
  cells
    .map((cell, index) => cell.padEnd(widths[index] ?? COLUMN))
    .join('')
    .trimEnd()

/** One sentence per cell that is wrong. */
export const wrongCells = (lines: readonly Line[]): readonly string[] =>
  lines.flatMap(({ kind, mode, cells }) =>
    cells.flatMap(({ transport, wrong }) => (wrong === undefined ? [] : [`${kind.name}, ${mode}, ${transport}: ${wrong}`])),
  )
