import { userInfo } from 'node:os'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { expect, it } from 'vitest'
import { apiKeys } from '../../src/agent/config/api.ts'
import { ROUTES } from '../../src/api/routes.ts'
import { openApiWorld } from '../api-world.ts'
import { describePeer } from '../peer.ts'
import { rowsUnder } from './markdown-table.ts'

const PAGE = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'api.md'), 'utf8')
const blocks = (language: string): string[] =>
  [...PAGE.matchAll(new RegExp(`\`\`\`${language}\n([^\`]*)\`\`\``, 'g'))].map(([, text = '']) => text)

it('the page names every route, and none that is not there', () => {
  const named = rowsUnder(PAGE, 'Routes').flatMap(([routes = '']) =>
    [...routes.matchAll(/`(GET|POST) ([^`]+)`/g)].map(([, method, path]) => `${method} ${path}`),
  )
  expect(named.toSorted()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted())
})

it('the section of vcb.yaml on the page is one', () => {
  const { api } = parse(blocks('yaml')[0] ?? '') as { api: unknown }
  expect(apiKeys.api.safeParse(api).error).toBeUndefined()
})

describePeer('curl', 'the examples with curl', () => {
  it('do what they say', async () => {
    await using world = await openApiWorld()
    await writeFile(join(world.directory, 'token.header'), `Authorization: Bearer ${await world.token('viewer')}\n`)
    const lines = blocks('sh')
      .flatMap((block) => block.split('\n'))
      .filter((line) => line.startsWith('curl '))
    expect(lines.length).toBeGreaterThanOrEqual(9)
    for (const line of lines) {
      const command = line
        .replace('/var/lib/vcb-proxy/agent.sock', world.socket)
        .replace('agent.pem', world.caFile)
        .replace('localhost:8443', `localhost:${world.api.port}`)
      const { stdout } = await promisify(execFile)('bash', ['-c', command], { cwd: world.directory, encoding: 'utf8' })
      if (line.includes('/metrics')) expect(stdout).toContain('vcb_queue_runs{state="waiting"} 1')
      else expect(() => JSON.parse(stdout) as unknown, line).not.toThrow()
    }
    expect(world.control.orders).toEqual([
      `run {"select":["web*"],"mode":"incremental"} by ${userInfo().username}`,
      `cancel web* by ${userInfo().username}`,
      `reload by ${userInfo().username}`,
    ])
  })
})
