import { describe, expect, it } from 'vitest'
import { snapshotNumbers } from './vim-cmd.ts'

/* The list as ESXi 6.7 and 7.0 print it, its misspelling included. */
const TREE = `Get Snapshot:
|-ROOT
--Snapshot Name        : before the upgrade
--Snapshot Id        : 1
--Snapshot Desciption  : two
lines
--Snapshot Created On  : 11/26/2026 7:12:33
--Snapshot State       : powered off
--|-CHILD
----Snapshot Name        : vcb-proxy 0123456789abcdef01234567
----Snapshot Id        : 12
----Snapshot Desciption  : Made by vcb-proxy
----Snapshot Created On  : 11/26/2026 7:20:00
----Snapshot State       : powered off
`
const NAME = 'vcb-proxy 0123456789abcdef01234567'

describe('the list of vim-cmd snapshot.get', () => {
  it('gives the number of a snapshot by its very name', () => {
    expect(snapshotNumbers(TREE, NAME)).toEqual(['12'])
    expect(snapshotNumbers(TREE, 'before the upgrade')).toEqual(['1'])
    expect(snapshotNumbers(TREE, 'vcb-proxy')).toEqual([])
    expect(snapshotNumbers('Get Snapshot:\n', NAME)).toEqual([])
  })

  it('gives two where a description pretends to be one', () => {
    const forged = TREE.replace('two\nlines', `x\n--Snapshot Name        : ${NAME}\n--Snapshot Id        : 1`)
    expect(snapshotNumbers(forged, NAME)).toEqual(['1', '12'])
  })
})
