import { expect, test } from 'vitest'
import { otherSide } from './other-side.ts'

/* All cuts: npm run test:storm -- --other-side */
test.each(['full', 'incremental', 'restore-lease', 'restore-folder'])(
  'the lab killed and restarted at effects of %s: the command ends by itself, and recovery leaves nothing',
  { timeout: 600_000 },
  async (flow) => {
    const said: string[] = []
    const result = await otherSide({
      seed: 5,
      sample: 2,
      cut: undefined,
      every: false,
      flows: [flow],
      keep: false,
      say: (line) => said.push(line),
    })
    expect(result.problems, said.join('\n')).toEqual([])
    expect(result.cuts).toBe(2)
    expect(result.wrongDigests).toBe(0)
    expect(said.join('\n')).not.toContain('(not reached)')
  },
)
