/**
 * `npm run test:transports`: the same disks read by every transport, full and changed-only, as a table; exit 1 when a cell differs from the digest that the
 * lab took of the same snapshot itself. How to read it: docs/testing.md.
 */
import { parseArgs } from 'node:util'
import { TRANSPORTS } from './transports.ts'
import { readEverything, tableHead, tableLine, wrongCells } from './table.ts'

const { values } = parseArgs({
  options: {
    /** MiB of the ordinary disks. */
    size: { type: 'string', default: '64' },
    /** Only kinds of disk whose name holds this. */
    only: { type: 'string', default: '' },
  },
})

const began = performance.now()
if (!TRANSPORTS.some(({ name }) => name === 'vddk'))
  console.log('vddk is left out: its stand-in needs nbdkit and qemu-img, which scripts/install-peers.sh brings')
console.log(tableHead())
const { lines, left } = await readEverything({ mib: Number(values.size), only: values.only }, (line) => console.log(tableLine(line)))
const wrong = wrongCells(lines)
const cells = lines.reduce((sum, line) => sum + line.cells.length, 0)
console.log(`\n${cells - wrong.length} of ${cells} reads equal the lab's digests, in ${Math.round((performance.now() - began) / 1000)} s`)
for (const sentence of wrong) console.log(`WRONG ${sentence}`)
console.log(left.length === 0 ? 'left behind: nothing' : `LEFT BEHIND ${left.join('; ')}`)
if (wrong.length > 0 || left.length > 0) process.exitCode = 1
