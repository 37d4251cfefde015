import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { baseName, directoryOf, formatDatastorePath, parseDatastorePath, within } from './datastore-path.ts'
import { splitUrl } from './folder-http.ts'

describe('datastore paths', () => {
  test('are taken apart and put together', () => {
    expect(parseDatastorePath('[ds 1] dir/x.vmdk')).toEqual({ datastore: 'ds 1', path: 'dir/x.vmdk' })
    expect(parseDatastorePath('[ds]')).toEqual({ datastore: 'ds', path: '' })
    expect(parseDatastorePath('[ds] /dir//./x/')).toEqual({ datastore: 'ds', path: 'dir/x' })
    expect(directoryOf('[ds] dir/x.vmdk')).toBe('[ds] dir')
    expect(directoryOf('[ds] x.vmdk')).toBe('[ds]')
    expect(baseName('[ds] dir/x.vmdk')).toBe('x.vmdk')
    expect(within('[ds]', 'x')).toBe('[ds] x')
  })

  test.each(['', 'ds/dir', '[] x', '[ds] ../x', '[ds] a/../../x', '[ds] a\0b', 'x [ds]'])('%j is refused', (text) => {
    expect(() => parseDatastorePath(text)).toThrow()
  })

  test('no text leads out of the datastore, neither as a path nor as a URL', () => {
    const piece = fc.constantFrom('..', '.', 'a', '/', '%2e', '%2f', '%252e', '\\', '%5c', '[', ']', ' ', '%00', '?', '%zz')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 10 }), (pieces) => {
        const text = pieces.join('')
        const { path } = splitUrl(`/folder/${text}`)
        for (const part of (path ?? '').split('/')) expect(part).not.toBe('..')
        let parsed: ReturnType<typeof parseDatastorePath>
        try {
          parsed = parseDatastorePath(`[ds] ${text}`)
        } catch {
          // Refused, which is the other right answer.
          return
        }
        expect(parsed.path.split('/')).not.toContain('..')
        expect(parseDatastorePath(formatDatastorePath(parsed))).toEqual(parsed)
      }),
      { numRuns: 3000, seed: 7 },
    )
  })
})
