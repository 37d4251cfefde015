import { expect, test } from 'vitest'
import { requirePeer } from '../peer.ts'
import { storm } from './storm.ts'

test('ten kills of the agent and three of the lab during a running schedule of six VMs leave nothing', { timeout: 600_000 }, async () => {
  const said: string[] = []
  const result = await storm({
    seed: 20,
    kills: 10,
    labKills: 3,
    restic: requirePeer('restic'),
    keep: false,
    say: (line) => said.push(line),
  })
  expect(result.problems, said.join('\n')).toEqual([])
  expect(result).toMatchObject({ kills: 10, labKills: 3, leftovers: 0, wrongDigests: 0 })
  expect(result.points).toBeGreaterThan(0)
})
